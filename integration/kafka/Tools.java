import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command line tools, one a line of stdin: a class and its arguments, separated by tabs. Of each it prints the
 * exit status and the number of bytes it wrote to stdout and stderr, in one line, and then these. One JVM for
 * many tools: to start one takes longer than what most of them do.
 */
public class Tools {
    /** Takes the place of the end of the process; some tools catch it and end again, with an error. */
    private static class Exited extends RuntimeException {
        Exited() {
            super(null, null, false, false);
        }
    }

    private static ByteArrayOutputStream said;
    private static int status;
    private static int length; // of what was said until the first end, or -1

    private static void exit(int with, String message) {
        if (length < 0) {
            status = with;
            length = said.size();
        }
        throw new Exited();
    }

    public static void main(String[] args) throws Exception {
        Exit.setExitProcedure(Tools::exit);
        Exit.setHaltProcedure(Tools::exit);
        PrintStream out = System.out;
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split("\t");
            said = new ByteArrayOutputStream();
            PrintStream capture = new PrintStream(said, true);
            System.setOut(capture);
            System.setErr(capture);
            status = 0;
            length = -1;
            try {
                Class.forName(words[0]).getMethod("main", String[].class)
                    .invoke(null, (Object) Arrays.copyOfRange(words, 1, words.length));
            } catch (InvocationTargetException e) {
                if (!(e.getCause() instanceof Exited)) {
                    e.getCause().printStackTrace(capture);
                    status = 1;
                }
            }
            if (length < 0) {
                length = said.size();
            }
            out.println(status + " " + length);
            out.write(said.toByteArray(), 0, length);
            out.flush();
        }
    }
}
