import java.net.URI;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerExtensionsValidatorCallback;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * A broker's side of Amazon MSK's IAM access control, as AWS documents it.
 *
 * <p>A token is the URL of a request to connect, signed by AWS Signature Version 4. Its signature is
 * computed here anew, from what the file of the property {@code msk.credentials} says: lines of an
 * access key, its secret, and for temporary credentials their session token.
 */
public final class MskIam implements AuthenticateCallbackHandler {
    private static final DateTimeFormatter WHEN =
        DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);
    /** Of a request without a body. */
    private static final String NOTHING = "";

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {}

    @Override
    public void close() {}

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (callback instanceof OAuthBearerValidatorCallback asked) {
                try {
                    asked.token(verified(asked.tokenValue()));
                } catch (Exception refused) {
                    asked.error("Access denied: " + refused.getMessage(), null, null);
                }
            } else if (callback instanceof OAuthBearerExtensionsValidatorCallback asked) {
                asked.inputExtensions().map().keySet().forEach(asked::valid);
            } else {
                throw new UnsupportedCallbackException(callback);
            }
        }
    }

    private static OAuthBearerToken verified(String token) throws Exception {
        String region = System.getProperty("msk.region");
        URI url = URI.create(new String(Base64.getUrlDecoder().decode(token), UTF_8));
        Map<String, String> query = new TreeMap<>();
        for (String pair : url.getRawQuery().split("&")) {
            String[] parts = pair.split("=", 2);
            query.put(URLDecoder.decode(parts[0], UTF_8), URLDecoder.decode(parts[1], UTF_8));
        }
        String signature = query.remove("X-Amz-Signature");
        query.remove("User-Agent"); // is added to what was signed

        String[] scope = query.get("X-Amz-Credential").split("/", 2);
        String day = query.get("X-Amz-Date").substring(0, 8);
        String host = "kafka." + region + ".amazonaws.com";
        same("scheme", "https", url.getScheme());
        same("host", host, url.getHost());
        same("path", "/", url.getPath());
        same("action", "kafka-cluster:Connect", query.get("Action"));
        same("algorithm", "AWS4-HMAC-SHA256", query.get("X-Amz-Algorithm"));
        same("signed headers", "host", query.get("X-Amz-SignedHeaders"));
        same("scope", day + "/" + region + "/kafka-cluster/aws4_request", scope[1]);

        List<String> credentials = known(scope[0]);
        same("session token", credentials.size() > 2 ? credentials.get(2) : null,
            query.get("X-Amz-Security-Token"));

        Instant signed = WHEN.parse(query.get("X-Amz-Date"), Instant::from);
        Instant ends = signed.plusSeconds(Long.parseLong(query.get("X-Amz-Expires")));
        if (Instant.now().isAfter(ends)) {
            throw new SecurityException("expired");
        }

        String canonical = String.join("\n", "GET", "/",
            query.entrySet().stream()
                .map(it -> encoded(it.getKey()) + "=" + encoded(it.getValue()))
                .collect(Collectors.joining("&")),
            "host:" + host, "", "host", sha256(NOTHING));
        String toSign = String.join("\n",
            "AWS4-HMAC-SHA256", query.get("X-Amz-Date"), scope[1], sha256(canonical));
        byte[] key = ("AWS4" + credentials.get(1)).getBytes(UTF_8);
        for (String part : scope[1].split("/")) {
            key = hmac(key, part);
        }
        same("signature", HexFormat.of().formatHex(hmac(key, toSign)), signature);
        return new Verified(token, scope[0], signed.toEpochMilli(), ends.toEpochMilli());
    }

    private static List<String> known(String accessKey) throws Exception {
        for (String line : Files.readAllLines(Path.of(System.getProperty("msk.credentials")))) {
            List<String> parts = List.of(line.split(" "));
            if (parts.get(0).equals(accessKey)) {
                return parts;
            }
        }
        throw new SecurityException("access key");
    }

    private static void same(String what, String expected, String found) {
        if (expected == null ? found != null : !expected.equals(found)) {
            throw new SecurityException(what);
        }
    }

    /** As RFC 3986 has it, which is not what Java's encoder does. */
    private static String encoded(String text) {
        return URLEncoder.encode(text, UTF_8).replace("+", "%20").replace("*", "%2A").replace("%7E", "~");
    }

    private static String sha256(String text) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(UTF_8)));
    }

    private static byte[] hmac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(UTF_8));
    }

    private record Verified(String value, String principalName, Long startTimeMs, long lifetimeMs)
            implements OAuthBearerToken {
        @Override
        public Set<String> scope() {
            return Set.of();
        }
    }
}
