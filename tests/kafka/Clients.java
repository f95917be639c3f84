// The plain Java client against our topics. Run as: java -cp 'JARS/*:FOLDER' Clients ...
//   place BOOTSTRAP TOPIC            keys on standard input; prints the partition it chose for each
//   consume BOOTSTRAP TOPIC COUNT    prints partition, key, headers and value, base64 but for names
//   produce BOOTSTRAP TOPIC COMPRESSION CONTENT_TYPE   key TAB value on standard input

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Clients {
    public static void main(String[] a) throws Exception {
        switch (a[0]) {
            case "place" -> place(a[1], a[2]);
            case "consume" -> consume(a[1], a[2], Integer.parseInt(a[3]));
            case "produce" -> produce(a[1], a[2], a[3], a[4]);
            default -> throw new IllegalArgumentException(a[0]);
        }
    }

    private static KafkaProducer<byte[], byte[]> producer(String bootstrap, String compression) {
        return new KafkaProducer<>(
                Map.of("bootstrap.servers", bootstrap, "compression.type", compression),
                new ByteArraySerializer(),
                new ByteArraySerializer());
    }

    private static List<String> lines() {
        return new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))
                .lines()
                .toList();
    }

    private static void place(String bootstrap, String topic) throws Exception {
        try (var producer = producer(bootstrap, "none")) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (String key : lines()) {
                byte[] bytes = key.getBytes(StandardCharsets.UTF_8);
                sent.add(producer.send(new ProducerRecord<>(topic, bytes, bytes)));
            }
            for (var one : sent) System.out.println(one.get().partition());
        }
    }

    private static void produce(String bootstrap, String topic, String compression, String type)
            throws Exception {
        try (var producer = producer(bootstrap, compression)) {
            for (String line : lines()) {
                String[] pair = line.split("\t", 2);
                var record =
                        new ProducerRecord<>(
                                topic,
                                pair[0].getBytes(StandardCharsets.UTF_8),
                                pair[1].getBytes(StandardCharsets.UTF_8));
                record.headers().add("contentType", type.getBytes(StandardCharsets.UTF_8));
                producer.send(record).get();
            }
        }
    }

    private static void consume(String bootstrap, String topic, int count) {
        var config =
                Map.<String, Object>of(
                        "bootstrap.servers", bootstrap,
                        "group.id", "plain-java",
                        "auto.offset.reset", "earliest");
        try (var consumer =
                new KafkaConsumer<>(
                        config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            for (int seen = 0; seen < count; ) {
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                    String headers =
                            StreamSupport.stream(r.headers().spliterator(), false)
                                    .map(h -> h.key() + "=" + text(h.value()))
                                    .collect(Collectors.joining(","));
                    System.out.println(
                            String.join(
                                    "\t",
                                    Integer.toString(r.partition()),
                                    text(r.key()),
                                    headers,
                                    text(r.value())));
                    seen++;
                }
            }
        }
    }

    private static String text(byte[] bytes) {
        return Base64.getEncoder().encodeToString(bytes);
    }
}
