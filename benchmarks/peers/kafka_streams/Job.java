import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ObjLongConsumer;
import java.util.function.ToLongFunction;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/**
 * The peers' job, as benchmarks/peers/job.py has it: the same submission makes the same bytes.
 *
 * <p>For one thread: it uses its decoder and encoder again.
 */
final class Job {
    private static final int FRAME = 5;
    private static final long HOUR_MS = 3_600_000;
    private static final ByteBuffer NO_HASH = ByteBuffer.wrap(new byte[32]).asReadOnlyBuffer();

    private record Place(String service, String unit, String provider, long total) {}

    private record Written(int id, Schema schema, GenericDatumWriter<GenericRecord> writer) {}

    private final Map<String, Map<String, List<Place>>> places = new HashMap<>();
    private final Map<String, Long> considered = new HashMap<>();
    private final Map<Integer, GenericDatumReader<GenericRecord>> readers = new HashMap<>();
    private final Map<String, Written> writers = new HashMap<>();
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;

    /** Reads the services, and the schemas as they are registered: a folder with ids.json. */
    Job(Path services, Path schemas) throws IOException {
        ObjectMapper json = new ObjectMapper();
        for (Map.Entry<String, JsonNode> region : json.readTree(services.toFile()).properties()) {
            Map<String, List<Place>> byNeed = places.computeIfAbsent(region.getKey(), key -> new HashMap<>());
            considered.put(region.getKey(), (long) region.getValue().size());
            for (JsonNode service : region.getValue()) {
                for (JsonNode need : service.get("terms")) {
                    List<Place> found =
                            byNeed.computeIfAbsent(need.get("code").asText(), key -> new ArrayList<>());
                    for (JsonNode unit : service.get("units")) {
                        found.add(
                                new Place(
                                        service.get("service").asText(),
                                        unit.get("unit").asText(),
                                        service.get("organisation").asText(),
                                        unit.get("available").asLong()));
                    }
                }
            }
        }
        for (JsonNode one : json.readTree(schemas.resolve("ids.json").toFile())) {
            Schema schema = new Schema.Parser().parse(schemas.resolve(one.get("file").asText()).toFile());
            int id = one.get("id").asInt();
            readers.put(id, new GenericDatumReader<>(schema));
            writers.put(schema.getName(), new Written(id, schema, new GenericDatumWriter<>(schema)));
        }
    }

    /** The events of one submission, framed. {@code now} is its append time in epoch milliseconds. */
    List<byte[]> decide(byte[] value, long offset, long now, ToLongFunction<String> used, ObjLongConsumer<String> hold) {
        GenericRecord submission = decoded(ByteBuffer.wrap(value));
        GenericRecord facts = decoded((ByteBuffer) submission.get("sealed_facts"));
        String region = submission.get("region").toString();
        String referral = submission.get("referral").toString();
        Place place = free(region, facts, used, hold);

        GenericRecord opened = empty("ReferralOpened");
        for (Schema.Field field : submission.getSchema().getFields()) {
            if (opened.hasField(field.name())) {
                opened.put(field.name(), submission.get(field.pos()));
            }
        }
        GenericRecord first = meta(opened, region, offset, now);
        GenericRecord admitted = new GenericData.Record(first.getSchema().getField("submission").schema().getTypes().get(1));
        admitted.put("type", "org.referralbus.inbox.SubmitReferral.v1");
        admitted.put("id", referral);
        admitted.put("source", "peer");
        admitted.put("digest", ByteBuffer.allocate(0));
        admitted.put("sent_at", now);
        admitted.put("partition", 0L);
        admitted.put("offset", offset);
        admitted.put("append_time", now);
        admitted.put("value", ByteBuffer.wrap(value));
        first.put("submission", admitted);
        opened.put("agency", "peer");
        opened.put("protocol", "peer");
        opened.put("protocol_version", 1L);

        GenericRecord matched = empty("MatchDecided");
        meta(matched, region, offset, now);
        matched.put("referral", referral);
        matched.put("attempt", 1L);
        matched.put("service", place == null ? null : place.service);
        GenericRecord certificate = new GenericData.Record(matched.getSchema().getField("certificate").schema());
        certificate.put("policy", "peer");
        certificate.put("policy_version", 1L);
        certificate.put("considered", considered.get(region));
        certificate.put("eliminated", List.of());
        certificate.put("best", List.of());
        certificate.put("misses", List.of());
        certificate.put("digest", NO_HASH.duplicate());
        certificate.put("in_window", false);
        matched.put("certificate", certificate);

        GenericRecord answer = empty(place == null ? "ReferralClosed" : "OfferMade");
        meta(answer, region, offset, now);
        answer.put("referral", referral);
        if (place == null) {
            answer.put("status", "revoked");
            answer.put("reason", "no_match");
        } else {
            answer.put("task", "tk-" + referral.substring(3) + "-1");
            answer.put("service", place.service);
            answer.put("unit", place.unit);
            answer.put("provider", place.provider);
            answer.put("expires_at", now + HOUR_MS);
        }
        return List.of(encoded(opened), encoded(matched), encoded(answer));
    }

    private Place free(String region, GenericRecord facts, ToLongFunction<String> used, ObjLongConsumer<String> hold) {
        Map<String, List<Place>> byNeed = places.getOrDefault(region, Map.of());
        for (Object need : (List<?>) facts.get("needs")) {
            for (Place place : byNeed.getOrDefault(((GenericRecord) need).get("code").toString(), List.of())) {
                long held = used.applyAsLong(place.unit);
                if (held < place.total) {
                    hold.accept(place.unit, held + 1);
                    return place;
                }
            }
        }
        return null;
    }

    private GenericRecord meta(GenericRecord event, String region, long offset, long now) {
        GenericRecord meta = new GenericData.Record(event.getSchema().getField("meta").schema());
        meta.put("region", region);
        meta.put("sequence", 1L);
        meta.put("prev_hash", NO_HASH.duplicate());
        meta.put("decided_through", offset);
        meta.put("now", now);
        meta.put("rules", 1L);
        event.put("meta", meta);
        return meta;
    }

    /** A record with the schema's defaults, as the other peers' Avro library fills them in. */
    private GenericRecord empty(String name) {
        Schema schema = writers.get(name).schema;
        GenericRecord record = new GenericData.Record(schema);
        for (Schema.Field field : schema.getFields()) {
            if (field.hasDefaultValue()) {
                record.put(field.pos(), GenericData.get().getDefaultValue(field));
            }
        }
        return record;
    }

    private GenericRecord decoded(ByteBuffer value) {
        int id = value.getInt(value.position() + 1);
        int start = value.arrayOffset() + value.position() + FRAME;
        decoder = DecoderFactory.get().binaryDecoder(value.array(), start, value.remaining() - FRAME, decoder);
        try {
            return readers.get(id).read(null, decoder);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private byte[] encoded(GenericRecord event) {
        Written written = writers.get(event.getSchema().getName());
        ByteArrayOutputStream out = new ByteArrayOutputStream(512);
        out.writeBytes(ByteBuffer.allocate(FRAME).put((byte) 0).putInt(written.id).array());
        encoder = EncoderFactory.get().binaryEncoder(out, encoder);
        try {
            written.writer.write(event, encoder);
            encoder.flush();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return out.toByteArray();
    }
}
