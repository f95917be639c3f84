// Reads the requests that a client program has to make; prints what it was answered.
// The same lines as steps.py reads and prints.

import com.google.gson.Gson;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;

final class Steps {
    /** One request. Chunked: without a length. Expect: with {@code Expect: 100-continue}. */
    static final class Step {
        String name;
        String method;
        String url;
        Map<String, String> headers = Map.of();
        String body;
        int pad;
        boolean chunked;
        boolean expect;

        /** The body; null where the request has none. */
        byte[] bytes() {
            return body == null ? null : (body + " ".repeat(pad)).getBytes(StandardCharsets.UTF_8);
        }

        /** The body as a stream, whose length nobody knows beforehand. */
        InputStream stream() {
            return new ByteArrayInputStream(bytes());
        }
    }

    /** What came back. Written as it is. */
    static final class Answer {
        String name;
        int status;
        String type;
        String body = "";
        String error;

        static Answer of(int status, String type, String body) {
            var answer = new Answer();
            answer.status = status;
            answer.type = type;
            answer.body = body == null ? "" : body;
            return answer;
        }
    }

    interface Client {
        Answer send(Step step) throws Exception;
    }

    private static final Gson GSON = new Gson();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    /** Send every request; those of one line at once. */
    static void run(Client client) throws Exception {
        var threads = Executors.newFixedThreadPool(16);
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            var wave = new ArrayList<Callable<Void>>();
            for (var step : GSON.fromJson(line, Step[].class)) wave.add(() -> print(client, step));
            for (var done : threads.invokeAll(wave)) done.get();
        }
        threads.shutdown();
    }

    private static Void print(Client client, Step step) {
        Answer answer;
        try {
            answer = client.send(step);
        } catch (Exception error) {
            answer = new Answer();
            answer.error = error.toString();
        }
        answer.name = step.name;
        OUT.println(GSON.toJson(answer));
        return null;
    }
}
