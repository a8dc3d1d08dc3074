import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The peers' job in Kafka Streams: a processor on a RocksDB store with a changelog, exactly_once_v2, one thread.
 *
 * <p>"In time" is its own commit interval under exactly_once_v2, 100 ms; "at once" is 1 ms. The store is cached, as the DSL has its stores:
 * the changelog gets what changed since the last commit.
 */
public final class Matching {
    private static final String HELD = "held";

    private static final class Decide implements Processor<byte[], byte[], byte[], byte[]> {
        private final Job job;
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<String, Long> held;

        Decide(Job job) {
            this.job = job;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
            held = given.getStateStore(HELD);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            long offset = context.recordMetadata().orElseThrow().offset();
            for (byte[] event : job.decide(record.value(), offset, record.timestamp(), this::used, held::put)) {
                context.forward(new Record<>(record.key(), event, System.currentTimeMillis()));
            }
        }

        private long used(String unit) {
            Long found = held.get(unit);
            return found == null ? 0 : found;
        }
    }

    public static void main(String[] words) throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, words[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-" + words[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Path.of(words[4]).resolveSibling("streams-" + words[1]).toString());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        if (words[5].equals("at-once")) {
            settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1);
        }
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 1_000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "zstd");

        Path services = Path.of(words[4]);
        Path schemas = Path.of(words[6]);
        Topology topology = new Topology();
        topology.addSource("inbox", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), words[2]);
        topology.addProcessor("decide", () -> new Decide(read(services, schemas)), "inbox");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(HELD), Serdes.String(), Serdes.Long())
                        .withCachingEnabled(),
                "decide");
        topology.addSink("ledger", words[3], Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "decide");

        KafkaStreams streams = new KafkaStreams(topology, settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    /** One for each task: none is shared by threads. */
    private static Job read(Path services, Path schemas) {
        try {
            return new Job(services, schemas);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
