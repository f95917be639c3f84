// A program on the client that was generated for Java; both of its libraries have these types.

import com.crossfade.client.ApiClient;
import com.crossfade.client.ApiException;
import com.crossfade.client.api.DeadLettersApi;
import com.crossfade.client.api.MessagesApi;
import com.crossfade.client.api.ReceiptsApi;
import com.crossfade.client.model.AckResult;
import com.crossfade.client.model.BatchResult;
import com.crossfade.client.model.MessageRequest;
import com.crossfade.client.model.MessageView;
import com.crossfade.client.model.Problem;
import com.crossfade.client.model.ProblemResult;
import com.crossfade.client.model.ReceiptRequest;
import com.crossfade.client.model.RedriveRequest;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

public class Main {
  static final long DEADLINE = System.nanoTime() + 60_000_000_000L;
  static final String TOO_LONG = "\u00e9".repeat(40_000); // in bytes, which no client counts
  static String conversation;

  interface Call<T> {
    T make() throws Exception;
  }

  static MessageRequest message(String key, String content) {
    return new MessageRequest()
        .conversationId(conversation).senderId("sender").content(content).clientMessageId(key);
  }

  static MessageRequest message(String key) {
    return message(key, "Hello");
  }

  static ApiException refused(Call<?> call) throws Exception {
    try {
      call.make();
    } catch (ApiException error) {
      return error;
    }
    throw new AssertionError("it was not refused");
  }

  static Problem problem(ApiException error) throws Exception {
    return ApiClient.createDefaultObjectMapper().readValue(error.getResponseBody(), Problem.class);
  }

  static void pause() throws InterruptedException {
    if (System.nanoTime() > DEADLINE) throw new AssertionError("too late");
    Thread.sleep(20);
  }

  static Map<String, Object> object(Object... members) {
    Map<String, Object> made = new LinkedHashMap<>();
    for (int i = 0; i < members.length; i += 2) made.put((String) members[i], members[i + 1]);
    return made;
  }

  static ApiClient client(String url, String key) {
    ApiClient made = new ApiClient();
    made.updateBaseUri(url);
    if (key != null) {
      made.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + key));
    }
    return made;
  }

  static Object item(BatchResult result) {
    if (result.getActualInstance() instanceof AckResult) {
      AckResult one = result.getAckResult();
      return object("kind", one.getKind().getValue(), "status", one.getStatus().getValue());
    }
    ProblemResult one = result.getProblemResult();
    return object("kind", one.getKind().getValue(), "status", one.getStatus(),
        "field", one.getErrors().get(0).getField());
  }

  static List<List<String>> pages(MessagesApi messages) throws ApiException {
    List<List<String>> read = new ArrayList<>();
    String after = null;
    while (true) {
      var page = messages.listMessages(conversation, after, 2);
      List<String> keys = new ArrayList<>();
      page.getItems().forEach(one -> keys.add(one.getClientMessageId()));
      read.add(keys);
      if (!page.getHasMore()) return read;
      after = page.getNext();
    }
  }

  public static void main(String[] arguments) throws Exception {
    String url = arguments[0];
    conversation = arguments[2];
    ApiClient client = client(url, arguments[1]);
    MessagesApi messages = new MessagesApi(client);
    ReceiptsApi receipts = new ReceiptsApi(client);
    DeadLettersApi letters = new DeadLettersApi(client);

    var first = messages.postMessage(message("1"), null, null, null);
    while (messages.getMessage(first.getMessageId()).getState() != MessageView.StateEnum.PERSISTED) {
      pause();
    }
    var repeat = messages.postMessage(message("1"), null, null, null);
    var receipt = receipts.postReceipt(first.getMessageId(),
        new ReceiptRequest().userId("reader").state(ReceiptRequest.StateEnum.READ));
    var listed = receipts.listReceipts(first.getMessageId());
    while (listed.getItems().isEmpty()) {
      pause();
      listed = receipts.listReceipts(first.getMessageId());
    }
    var batch = messages.postMessages(
        List.of(message("2"), message("x", TOO_LONG), message("3")), null, null);
    messages.postMessages(List.of(message("4")), null, null);
    messages.postMessages(List.of(message("5")), null, null);
    Problem conflict = problem(refused(
        () -> messages.postMessage(message("1", "other"), null, null, null)));
    ApiException faulty = refused(
        () -> messages.postMessage(message("6", TOO_LONG), null, null, null));
    Problem invalid = problem(faulty);
    ApiException absent = refused(() -> messages.getMessage(UUID.randomUUID()));
    var read = pages(messages);
    while (read.stream().mapToInt(List::size).sum() < 5) {
      pause();
      read = pages(messages);
    }
    long number =
        letters.listDeadLetters(null, null, null, null, null, null, null, null, null, null).getItems().get(0).getId();
    var letter = letters.getDeadLetter(number);
    var preview = letters.redriveDeadLetters(new RedriveRequest().addIdsItem(number).dryRun(true));
    ApiException keyless = refused(
        () -> new MessagesApi(client(url, null)).postMessage(message("7"), null, null, null));

    List<Object> shown = new ArrayList<>();
    listed.getItems().forEach(
        one -> shown.add(object("user", one.getUserId(), "state", one.getState())));
    List<Object> items = new ArrayList<>();
    batch.forEach(one -> items.add(item(one)));
    System.out.println(new ObjectMapper().writeValueAsString(object(
        "first", object("id", first.getMessageId().toString(), "state", first.getState().getValue(),
            "hit", first.getIdempotentHit(), "at", first.getAcceptedAt().toString()),
        "repeat", object("id", repeat.getMessageId().toString(), "hit", repeat.getIdempotentHit(),
            "at", repeat.getAcceptedAt().toString()),
        "receipt", object("state", receipt.getState().getValue(), "hit", receipt.getIdempotentHit()),
        "receipts", shown,
        "batch", items,
        "conflict", object("status", conflict.getStatus(), "type", conflict.getType(),
            "title", conflict.getTitle(), "detail", conflict.getDetail(),
            "correlationId", conflict.getCorrelationId()),
        "invalid", object("status", faulty.getCode(),
            "field", invalid.getErrors().get(0).getField(),
            "remedy", !invalid.getErrors().get(0).getRemedy().isEmpty()),
        "missing", object("status", absent.getCode(), "type", problem(absent).getType()),
        "pages", read,
        "letter", object("id", letter.getId(), "reason", letter.getReason(),
            "state", letter.getState()),
        "preview", preview.getLetters(),
        "keyless", keyless.getCode())));
  }
}
