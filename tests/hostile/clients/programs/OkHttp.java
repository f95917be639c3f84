// OkHttp with its defaults. With h2c: HTTP/2 without TLS, by prior knowledge.

import java.io.IOException;
import java.util.List;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Protocol;
import okhttp3.Request;
import okhttp3.RequestBody;
import okio.BufferedSink;

final class OkHttp {
    public static void main(String[] arguments) throws Exception {
        var builder = new OkHttpClient.Builder();
        if (arguments.length > 0) builder.protocols(List.of(Protocol.H2_PRIOR_KNOWLEDGE));
        var client = builder.build();
        Steps.run(
                step -> {
                    var request = new Request.Builder().url(step.url);
                    step.headers.forEach(request::header);
                    if (step.expect) request.header("Expect", "100-continue");
                    request.method(step.method, body(step));
                    try (var got = client.newCall(request.build()).execute()) {
                        return Steps.Answer.of(
                                got.code(), got.header("Content-Type"), got.body().string());
                    }
                });
        client.dispatcher().executorService().shutdown();
        client.connectionPool().evictAll();
    }

    private static RequestBody body(Steps.Step step) {
        if (step.body == null) return null;
        var type = MediaType.parse(step.headers.getOrDefault("Content-Type", "text/plain"));
        if (!step.chunked) return RequestBody.create(step.bytes(), type);
        return new RequestBody() { // its length is -1: not known
            @Override
            public MediaType contentType() {
                return type;
            }

            @Override
            public void writeTo(BufferedSink sink) throws IOException {
                sink.write(step.bytes());
            }
        };
    }
}
