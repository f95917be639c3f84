// java.net.http.HttpClient as it comes: HTTP/2 preferred, so it asks to upgrade to h2c.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

final class JdkHttpClient {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        Steps.run(
                step -> {
                    var request =
                            HttpRequest.newBuilder(URI.create(step.url))
                                    .method(step.method, body(step))
                                    .expectContinue(step.expect);
                    step.headers.forEach(request::header);
                    var answer = client.send(request.build(), BodyHandlers.ofString());
                    var type = answer.headers().firstValue("Content-Type").orElse(null);
                    return Steps.Answer.of(answer.statusCode(), type, answer.body());
                });
    }

    private static BodyPublisher body(Steps.Step step) {
        if (step.body == null) return BodyPublishers.noBody();
        if (step.chunked) return BodyPublishers.ofInputStream(step::stream);
        return BodyPublishers.ofByteArray(step.bytes());
    }
}
