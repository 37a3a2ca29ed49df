"""kafka-python against a broker: kafkapython.py BROKER TOPIC GROUP, a line for each step."""
import sys
import threading

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic
from kafka.errors import BrokerResponseError
from kafka.structs import OffsetAndMetadata

from steps import CODECS, EACH, LIMIT, TOO_LARGE, digest, key, say, until, value

broker, topic, group = sys.argv[1:]
admin = KafkaAdminClient(bootstrap_servers=broker)
first = TopicPartition(topic, 0)


def code(call):
    try:
        call()
        return 0
    except BrokerResponseError as e:
        return e.errno


def produce():
    for number, codec in enumerate(CODECS):
        p = KafkaProducer(bootstrap_servers=broker, compression_type=None if codec == "none" else codec, acks="all", linger_ms=20)
        sent = [p.send(topic, value(codec, n), key(n), [("codec", codec.encode())], 0)
                for n in range(number * EACH, number * EACH + EACH)]
        offsets = [s.get(LIMIT).offset for s in sent]
        p.close()
        say("produce " + codec, f"{min(offsets)}-{max(offsets)}")


def consumer(*topics):
    return KafkaConsumer(*topics, bootstrap_servers=broker, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                         session_timeout_ms=30000, heartbeat_interval_ms=200)


def read_from(offset, count):
    c = consumer()
    c.assign([first])
    c.seek(first, offset)
    read = []
    until("records", lambda: read.extend(c.poll(1000, count - len(read)).get(first, [])) or len(read) >= count)
    c.close(autocommit=False)
    return read


def groups():
    a = consumer(topic)
    until("first member", lambda: a.poll(100, 1) and False or len(a.assignment()) == 2)
    # Each member polls on its own thread: a join blocks until all have joined.
    joined, leave = threading.Event(), threading.Event()

    def second():
        b = consumer(topic)
        while not leave.is_set():
            b.poll(100, 1)
            if len(b.assignment()) == 1:
                joined.set()
        b.close(autocommit=False)

    other = threading.Thread(target=second, daemon=True)
    other.start()
    until("two members", lambda: a.poll(100, 1) and False or joined.is_set() and len(a.assignment()) == 1)
    say("two members", "1 and 1 partitions")
    leave.set()
    until("one is left", lambda: a.poll(100, 1) and False or not other.is_alive() and len(a.assignment()) == 2)
    say("one is left", "2 partitions")
    (described,) = admin.describe_consumer_groups([group])
    say("describe group", f"{described.state.lower()}, {len(described.members)} member")
    a.commit({first: OffsetAndMetadata(20, "", -1)})
    a.close(autocommit=False)
    say("list groups", group in [g[0] for g in admin.list_consumer_groups()])
    say("committed", admin.list_consumer_group_offsets(group)[first].offset)
    c = consumer(topic)
    got = until("resumed", lambda: c.poll(100, 1).get(first))
    say("resumed at", got[0].offset)
    c.close(autocommit=False)


say("create", code(lambda: admin.create_topics([NewTopic(topic, 2, 1)])))
say("create again", code(lambda: admin.create_topics([NewTopic(topic, 2, 1)])))
produce()
say("consume", digest([(m.offset, m.key, m.value, m.headers) for m in read_from(0, len(CODECS) * EACH)]))
groups()
say("delete records", admin.delete_records({first: 5})[first]["low_watermark"])
say("bad offset resets to", read_from(1, 1)[0].offset)
say("alter config", admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "7777777"})]).resources[0][0])
answers = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
say("config", next(row[1] for row in answers[0].resources[0][4] if row[0] == "retention.ms"))
say("add partitions", code(lambda: admin.create_partitions({topic: NewPartitions(3)})))
say("partitions", len(admin.describe_topics([topic])[0]["partitions"]))
big = KafkaProducer(bootstrap_servers=broker, max_request_size=3_000_000)
say("too large", code(lambda: big.send(topic, b"x" * TOO_LARGE).get(LIMIT)))
big.close()
say("unknown topic", code(lambda: admin.delete_topics([topic + "-none"])))
say("delete group", admin.delete_consumer_groups([group])[0][1].errno)
say("delete unknown group", admin.delete_consumer_groups([group])[0][1].errno)
say("delete topic", code(lambda: admin.delete_topics([topic])))
admin.close()
