// kafkajs against a broker: main.js BROKER TOPIC GROUP, a line for each step.
const crypto = require('crypto')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs')
const lz4 = require('lz4js')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})

const [broker, topic, group] = process.argv.slice(2)
const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4 }
const each = 10
const tooLarge = 1200000
const client = new Kafka({ clientId: 'matrix', brokers: [broker], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 8 } })
const admin = client.admin()
const say = (step, result) => console.log(`${step}: ${result}`)

const limited = (what, promise, ms = 60000) =>
  Promise.race([promise, new Promise((_, fail) => setTimeout(() => fail(new Error(`not in time: ${what}`)), ms).unref())])

// code is the error code of an answer, which kafkajs wraps in many ways.
async function code(promise) {
  try {
    await promise
    return 0
  } catch (e) {
    const inner = (e.errors && e.errors[0]) || (e.groups && e.groups[0]) || e
    return inner.code ?? inner.errorCode ?? (inner.cause && inner.cause.code) ?? e.message
  }
}

async function produce() {
  let n = 0
  for (const [codec, compression] of Object.entries(codecs)) {
    const p = client.producer({ idempotent: true, maxInFlightRequests: 1 })
    await p.connect()
    const messages = []
    for (let i = 0; i < each; i++, n++) {
      messages.push({ partition: 0, key: `k${n}`, value: `${codec} ${n} ${'x'.repeat(200)}`, headers: { codec } })
    }
    const [answer] = await p.send({ topic, acks: -1, compression, messages })
    say(`produce ${codec}`, `${answer.baseOffset}-${Number(answer.baseOffset) + each - 1}`)
    await p.disconnect()
  }
}

// Member is one of a group; it knows how many partitions it has, and calls onRecord for each record.
class Member {
  constructor(groupId, onRecord = () => {}) {
    this.groupId = groupId
    this.consumer = client.consumer({ groupId, heartbeatInterval: 200, sessionTimeout: 30000, rebalanceTimeout: 30000, maxWaitTimeInMs: 100 })
    this.onRecord = onRecord
    this.partitions = 0
    this.waiting = []
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.partitions = (payload.memberAssignment[topic] || []).length
      this.waiting.forEach((w) => w())
    })
  }
  async start(seek) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [topic], fromBeginning: true })
    await this.consumer.run({ autoCommit: false, eachMessage: async (m) => this.onRecord(m) })
    if (seek !== undefined) this.consumer.seek({ topic, partition: 0, offset: seek })
  }
  has(count) {
    return limited(`${count} partitions`, new Promise((done) => {
      const look = () => this.partitions === count && done()
      this.waiting.push(look)
      look()
    }))
  }
  stop() { return this.consumer.disconnect() }
}

// read collects count records of partition 0, from an offset where one is given.
async function read(groupId, count, seek) {
  const got = []
  let full
  const done = new Promise((f) => { full = f })
  const m = new Member(groupId, ({ partition, message }) => {
    // Until the seek acts, records of before may come.
    if (partition === 0 && (seek === undefined || Number(message.offset) >= seek) && got.push(message) === count) full()
  })
  await m.start(seek)
  await limited('records', done)
  await m.stop()
  return got.slice(0, count)
}

function digest(messages) {
  const h = crypto.createHash('sha256')
  for (const m of messages) h.update(`${m.offset} ${m.key} ${m.value} codec=${m.headers.codec}\n`)
  return `${messages.length} ${h.digest('hex')}`
}

async function groups() {
  const a = new Member(group)
  const b = new Member(group)
  await a.start()
  await a.has(2)
  await b.start()
  await Promise.all([a.has(1), b.has(1)])
  say('two members', '1 and 1 partitions')
  await b.stop()
  await a.has(2)
  say('one is left', '2 partitions')
  const described = (await admin.describeGroups([group])).groups[0]
  say('describe group', `${described.state.toLowerCase()}, ${described.members.length} member`)
  await a.consumer.commitOffsets([{ topic, partition: 0, offset: '20' }])
  await a.stop()
  say('list groups', (await admin.listGroups()).groups.some((g) => g.groupId === group) ? 'True' : 'False')
  const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  say('committed', committed.partitions.find((p) => p.partition === 0).offset)
  say('resumed at', (await read(group, 1))[0].offset)
}

async function main() {
  await admin.connect()
  const create = () => admin.createTopics({ topics: [{ topic, numPartitions: 2, replicationFactor: 1 }] })
  say('create', (await create()) ? 0 : 36)
  say('create again', (await create()) ? 0 : 36) // kafkajs makes false of TOPIC_ALREADY_EXISTS
  await produce()
  say('consume', digest(await read(`${group}-all`, Object.keys(codecs).length * each)))
  await groups()
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '5' }] })
  say('delete records', (await admin.fetchTopicOffsets(topic)).find((p) => p.partition === 0).low)
  say('bad offset resets to', (await read(`${group}-bad`, 1, 1))[0].offset)
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  say('alter config', await code(admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '7777777' }] }] })))
  const described = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
  say('config', described.resources[0].configEntries.find((e) => e.configName === 'retention.ms').configValue)
  say('add partitions', (await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })) === false ? 'refused' : 0)
  say('partitions', (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length)
  const big = client.producer()
  await big.connect()
  say('too large', await code(big.send({ topic, messages: [{ value: 'x'.repeat(tooLarge) }] })))
  await big.disconnect()
  say('unknown topic', await code(admin.deleteTopics({ topics: [`${topic}-none`] })))
  say('delete group', await code(admin.deleteGroups([group])))
  say('delete unknown group', await code(admin.deleteGroups([group])))
  say('delete topic', await code(admin.deleteTopics({ topics: [topic] })))
  await admin.disconnect()
}

limited('all', main(), 240000).then(() => process.exit(0), (e) => { console.error(e); process.exit(1) })
