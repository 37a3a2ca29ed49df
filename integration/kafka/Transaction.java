import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.serialization.StringSerializer;

/** Begins to be a transactional producer and prints how that is refused. */
public class Transaction {
    public static void main(String[] args) {
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "transactional.id", "t", "max.block.ms", "20000");
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
        } catch (AuthorizationException e) {
            System.out.println(e);
        }
    }
}
