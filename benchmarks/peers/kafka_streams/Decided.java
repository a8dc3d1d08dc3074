import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.Scanner;

/** The job alone, for whoever compares: a line of base64 with a submission in, a line for each event out. Offset and time count up from 0. */
public final class Decided {
    public static void main(String[] words) throws Exception {
        Job job = new Job(Path.of(words[0]), Path.of(words[1]));
        Map<String, Long> held = new HashMap<>();
        Scanner lines = new Scanner(System.in, StandardCharsets.US_ASCII);
        for (long number = 0; lines.hasNextLine(); number++) {
            byte[] submission = Base64.getDecoder().decode(lines.nextLine());
            for (byte[] event :
                    job.decide(submission, number, number, unit -> held.getOrDefault(unit, 0L), held::put)) {
                System.out.println(Base64.getEncoder().encodeToString(event));
            }
        }
    }
}
