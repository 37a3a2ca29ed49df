"""aiokafka against a broker: aio.py BROKER TOPIC GROUP, a line for each step."""
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import BrokerResponseError

from steps import CODECS, EACH, LIMIT, TOO_LARGE, digest, key, say, value

broker, topic, group = sys.argv[1:]
first = TopicPartition(topic, 0)


async def code(call):
    """Of an answer of the admin client, which leaves some errors in it."""
    try:
        answer = await call
        for row in getattr(answer, "topic_errors", None) or getattr(answer, "topic_error_codes", None) or []:
            return row[1]
        return 0
    except BrokerResponseError as e:
        return e.errno


async def produce():
    for number, codec in enumerate(CODECS):
        p = AIOKafkaProducer(bootstrap_servers=broker, compression_type=None if codec == "none" else codec,
                             enable_idempotence=True, linger_ms=20)
        await p.start()
        sent = [await p.send(topic, value(codec, n), key(n), 0, headers=[("codec", codec.encode())])
                for n in range(number * EACH, number * EACH + EACH)]
        offsets = [(await s).offset for s in sent]
        await p.stop()
        say("produce " + codec, f"{min(offsets)}-{max(offsets)}")


async def consumer(*topics, group=group):
    c = AIOKafkaConsumer(*topics, bootstrap_servers=broker, group_id=group, auto_offset_reset="earliest",
                         enable_auto_commit=False, session_timeout_ms=30000, heartbeat_interval_ms=200)
    await c.start()
    return c


async def read_from(offset, count):
    c = await consumer(group=None)
    c.assign([first])
    c.seek(first, offset)
    read = []
    while len(read) < count:
        for rows in (await c.getmany(timeout_ms=1000, max_records=count - len(read))).values():
            read.extend(rows)
    await c.stop()
    return read


async def assigned(*members):
    """Waits until the members have so many partitions; they heartbeat by themselves."""
    while any(len(c.assignment()) != want for c, want in members):
        for c, _ in members:
            await c.getmany(timeout_ms=50, max_records=1)


async def groups(admin):
    a = await consumer(topic)
    await assigned((a, 2))
    b = await consumer(topic)
    await assigned((a, 1), (b, 1))
    say("two members", "1 and 1 partitions")
    await b.stop()
    await assigned((a, 2))
    say("one is left", "2 partitions")
    described = (await admin.describe_consumer_groups([group]))[0].groups[0]
    say("describe group", f"{described[2].lower()}, {len(described[5])} member")
    await a.commit({first: 20})
    await a.stop()
    say("list groups", group in [g[0] for g in await admin.list_consumer_groups()])
    say("committed", (await admin.list_consumer_group_offsets(group))[first].offset)
    c = await consumer(topic)
    say("resumed at", (await c.getone(first)).offset)
    await c.stop()


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    say("create", await code(admin.create_topics([NewTopic(topic, 2, 1)])))
    say("create again", await code(admin.create_topics([NewTopic(topic, 2, 1)])))
    await produce()
    say("consume", digest([(m.offset, m.key, m.value, m.headers) for m in await read_from(0, len(CODECS) * EACH)]))
    await groups(admin)
    say("delete records", (await admin.delete_records({first: RecordsToDelete(before_offset=5)}))[first])
    say("bad offset resets to", (await read_from(1, 1))[0].offset)
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "7777777"})
    say("alter config", (await admin.alter_configs([resource]))[0].resources[0][0])
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    say("config", next(row[1] for row in answers[0].resources[0][4] if row[0] == "retention.ms"))
    say("add partitions", await code(admin.create_partitions({topic: NewPartitions(3)})))
    say("partitions", len((await admin.describe_topics([topic]))[0]["partitions"]))
    big = AIOKafkaProducer(bootstrap_servers=broker, max_request_size=3_000_000)
    await big.start()
    say("too large", await code(big.send_and_wait(topic, b"x" * TOO_LARGE)))
    await big.stop()
    say("unknown topic", await code(admin.delete_topics([topic + "-none"])))
    say("delete topic", await code(admin.delete_topics([topic])))
    await admin.close()


asyncio.run(asyncio.wait_for(main(), 4 * LIMIT))
