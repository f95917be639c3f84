// Apache HttpClient 5, with its defaults (25 connections at most, 5 a route).

import java.nio.charset.StandardCharsets;
import org.apache.hc.client5.http.classic.methods.HttpUriRequestBase;
import org.apache.hc.client5.http.config.RequestConfig;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ClassicHttpResponse;
import org.apache.hc.core5.http.io.entity.ByteArrayEntity;
import org.apache.hc.core5.http.io.entity.InputStreamEntity;

final class ApacheClient {
    public static void main(String[] arguments) throws Exception {
        try (var client = HttpClients.createDefault()) {
            Steps.run(step -> client.execute(request(step), ApacheClient::answer));
        }
    }

    private static HttpUriRequestBase request(Steps.Step step) {
        var request = new HttpUriRequestBase(step.method, java.net.URI.create(step.url));
        step.headers.forEach(request::setHeader);
        if (step.expect)
            request.setConfig(RequestConfig.custom().setExpectContinueEnabled(true).build());
        if (step.chunked) request.setEntity(new InputStreamEntity(step.stream(), null));
        else if (step.body != null) request.setEntity(new ByteArrayEntity(step.bytes(), null));
        return request;
    }

    private static Steps.Answer answer(ClassicHttpResponse got) throws java.io.IOException {
        var type = got.getFirstHeader("Content-Type");
        var entity = got.getEntity();
        var body =
                entity == null
                        ? ""
                        : new String(entity.getContent().readAllBytes(), StandardCharsets.UTF_8);
        return Steps.Answer.of(got.getCode(), type == null ? null : type.getValue(), body);
    }
}
