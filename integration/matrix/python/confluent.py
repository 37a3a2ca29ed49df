"""confluent-kafka (librdkafka) against a broker: confluent.py BROKER TOPIC GROUP, a line for each step."""
import sys

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType,
)

from steps import CODECS, EACH, LIMIT, TOO_LARGE, digest, key, say, until, value

broker, topic, group = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": broker})


def done(futures):
    (future,) = futures.values()
    return future.result(LIMIT)


def code(futures):
    try:
        done(futures)
        return 0
    except KafkaException as e:
        return e.args[0].code()


def produce():
    for number, codec in enumerate(CODECS):
        offsets = []
        p = Producer({"bootstrap.servers": broker, "compression.type": codec, "acks": "all", "enable.idempotence": True, "linger.ms": 20})
        for n in range(EACH):
            n += number * EACH
            p.produce(topic, value(codec, n), key(n), 0, headers=[("codec", codec.encode())],
                      on_delivery=lambda err, m: offsets.append(err.code() if err else m.offset()))
        p.flush(LIMIT)
        say("produce " + codec, f"{min(offsets)}-{max(offsets)}")


def consumer(**more):
    return Consumer({"bootstrap.servers": broker, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "session.timeout.ms": 45000, "heartbeat.interval.ms": 200} | {k.replace("_", "."): v for k, v in more.items()})


def read_from(offset, count, **more):
    c = consumer(**more)
    c.assign([TopicPartition(topic, 0, offset)])
    read = []
    until("records", lambda: read.extend(m for m in c.consume(count - len(read), 1) if not m.error()) or len(read) >= count)
    c.close()
    return read


def groups():
    a, b = consumer(), consumer()
    kept = []

    def assigned(*want):
        for c in (a, b)[: len(want)]:
            kept.extend(c.consume(1, 0.1))
        return all(len(c.assignment()) == w for c, w in zip((a, b), want))

    a.subscribe([topic])
    until("first member", lambda: assigned(2))
    b.subscribe([topic])
    until("two members", lambda: assigned(1, 1))
    say("two members", "1 and 1 partitions")
    b.close()
    until("one is left", lambda: assigned(2))
    say("one is left", "2 partitions")
    described = done(admin.describe_consumer_groups([group]))
    say("describe group", f"{described.state.name.lower()}, {len(described.members)} member")
    a.commit(offsets=[TopicPartition(topic, 0, 20)], asynchronous=False)
    a.close()
    say("list groups", group in [g.group_id for g in admin.list_consumer_groups().result(LIMIT).valid])
    committed = done(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
    say("committed", next(p.offset for p in committed.topic_partitions if p.partition == 0))
    c = consumer()
    c.subscribe([topic])
    say("resumed at", until("resumed", lambda: c.poll(0.1)).offset())
    c.close()


say("create", code(admin.create_topics([NewTopic(topic, 2, 1)])))
say("create again", code(admin.create_topics([NewTopic(topic, 2, 1)])))
produce()
say("consume", digest([(m.offset(), m.key(), m.value(), m.headers()) for m in read_from(0, len(CODECS) * EACH)]))
groups()
say("delete records", done(admin.delete_records([TopicPartition(topic, 0, 5)])).low_watermark)
say("bad offset resets to", read_from(1, 1)[0].offset())
resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
    ConfigEntry("retention.ms", "7777777", incremental_operation=AlterConfigOpType.SET)])
say("alter config", code(admin.incremental_alter_configs([resource])))
say("config", done(admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))["retention.ms"].value)
say("add partitions", code(admin.create_partitions([NewPartitions(topic, 3)])))
say("partitions", len(admin.list_topics(topic, LIMIT).topics[topic].partitions))
errors = []
big = Producer({"bootstrap.servers": broker, "message.max.bytes": 3_000_000})
big.produce(topic, b"x" * TOO_LARGE, on_delivery=lambda err, m: errors.append(err.code() if err else 0))
big.flush(LIMIT)
say("too large", errors[0])
say("unknown topic", code(admin.delete_topics([topic + "-none"])))
say("delete group", code(admin.delete_consumer_groups([group])))
say("delete unknown group", code(admin.delete_consumer_groups([group])))
say("delete topic", code(admin.delete_topics([topic])))
