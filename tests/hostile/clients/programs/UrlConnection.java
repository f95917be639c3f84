// java.net.HttpURLConnection, the oldest of Java's clients and still much used.

import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;

final class UrlConnection {
    public static void main(String[] arguments) throws Exception {
        Steps.run(
                step -> {
                    var connection = (HttpURLConnection) new URL(step.url).openConnection();
                    connection.setRequestMethod(step.method);
                    step.headers.forEach(connection::setRequestProperty);
                    if (step.expect) connection.setRequestProperty("Expect", "100-continue");
                    if (step.body != null) write(connection, step);
                    int status = connection.getResponseCode();
                    return Steps.Answer.of(
                            status, connection.getContentType(), read(connection, status));
                });
    }

    private static void write(HttpURLConnection connection, Steps.Step step) throws Exception {
        connection.setDoOutput(true);
        if (step.chunked) connection.setChunkedStreamingMode(0);
        else if (step.expect) connection.setFixedLengthStreamingMode(step.bytes().length);
        try (var out = connection.getOutputStream()) {
            out.write(step.bytes());
        }
    }

    private static String read(HttpURLConnection connection, int status) throws Exception {
        InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream();
        if (in == null) return "";
        try (in) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
