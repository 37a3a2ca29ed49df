package metadata

import "strings"

// unused are settings of Kafka 4.3 that strata knows by name and does not act
// on: they are accepted with a warning that says why, so that a Kafka file starts.
type unused struct{ why, names string }

// IgnoredBrokerSettings is the table of what is known and has no effect; Doc says why.
func IgnoredBrokerSettings() []Setting {
	var out []Setting
	for _, group := range unusedSettings() {
		for name := range strings.FieldsSeq(group.names) {
			out = append(out, ignoredSetting(name, group.why))
		}
	}
	return out
}

func ignoredSetting(name, why string) Setting {
	return Setting{Name: name, Type: StringSetting, Null: true, Ignored: true, Doc: why}
}

func unusedSettings() []unused { //nolint:funlen // a table
	return []unused{
		{"there are no pools of this kind to size: work runs on goroutines, as many as there is work", `
background.threads
delete.records.purgatory.purge.interval.requests
early.start.listeners
fetch.purgatory.purge.interval.requests
group.coordinator.background.threads
group.coordinator.threads
log.initial.task.delay.ms
num.io.threads
num.network.threads
num.recovery.threads.per.data.dir
num.replica.alter.log.dirs.threads
num.replica.fetchers
producer.purgatory.purge.interval.requests
queued.max.requests
remote.log.manager.expiration.thread.pool.size
remote.log.manager.follower.thread.pool.size
remote.log.manager.thread.pool.size
remote.log.reader.max.pending.tasks
server.max.startup.time.ms
share.fetch.purgatory.purge.interval.requests
`},
		{"groups of this kind are not served", `
group.consumer.assignment.interval.ms
group.consumer.assignors
group.consumer.heartbeat.interval.ms
group.consumer.max.assignment.interval.ms
group.consumer.max.heartbeat.interval.ms
group.consumer.max.session.timeout.ms
group.consumer.max.size
group.consumer.migration.policy
group.consumer.min.assignment.interval.ms
group.consumer.min.heartbeat.interval.ms
group.consumer.min.session.timeout.ms
group.consumer.regex.refresh.interval.ms
group.consumer.session.timeout.ms
group.coordinator.rebalance.protocols
group.share.assignment.interval.ms
group.share.assignors
group.share.delivery.count.limit
group.share.heartbeat.interval.ms
group.share.initialize.retry.interval.ms
group.share.max.assignment.interval.ms
group.share.max.delivery.count.limit
group.share.max.heartbeat.interval.ms
group.share.max.partition.max.record.locks
group.share.max.record.lock.duration.ms
group.share.max.session.timeout.ms
group.share.max.share.sessions
group.share.max.size
group.share.min.assignment.interval.ms
group.share.min.delivery.count.limit
group.share.min.heartbeat.interval.ms
group.share.min.partition.max.record.locks
group.share.min.record.lock.duration.ms
group.share.min.session.timeout.ms
group.share.partition.max.record.locks
group.share.persister.class.name
group.share.record.lock.duration.ms
group.share.session.timeout.ms
group.streams.assignment.interval.ms
group.streams.heartbeat.interval.ms
group.streams.initial.rebalance.delay.ms
group.streams.max.assignment.interval.ms
group.streams.max.heartbeat.interval.ms
group.streams.max.session.timeout.ms
group.streams.max.size
group.streams.max.standby.replicas
group.streams.min.assignment.interval.ms
group.streams.min.heartbeat.interval.ms
group.streams.min.session.timeout.ms
group.streams.num.standby.replicas
group.streams.session.timeout.ms
share.coordinator.append.linger.ms
share.coordinator.cached.buffer.max.bytes
share.coordinator.cold.partition.snapshot.interval.ms
share.coordinator.load.buffer.size
share.coordinator.snapshot.update.records.per.snapshot
share.coordinator.state.topic.compression.codec
share.coordinator.state.topic.min.isr
share.coordinator.state.topic.num.partitions
share.coordinator.state.topic.prune.interval.ms
share.coordinator.state.topic.replication.factor
share.coordinator.state.topic.segment.bytes
share.coordinator.threads
share.coordinator.write.timeout.ms
`},
		{"listeners are PLAINTEXT only", `
connection.failed.authentication.delay.ms
connections.max.reauth.ms
delegation.token.expiry.check.interval.ms
delegation.token.expiry.time.ms
delegation.token.max.lifetime.ms
delegation.token.secret.key
principal.builder.class
sasl.client.callback.handler.class
sasl.enabled.mechanisms
sasl.jaas.config
sasl.kerberos.kinit.cmd
sasl.kerberos.min.time.before.relogin
sasl.kerberos.principal.to.local.rules
sasl.kerberos.service.name
sasl.kerberos.ticket.renew.jitter
sasl.kerberos.ticket.renew.window.factor
sasl.login.callback.handler.class
sasl.login.class
sasl.login.connect.timeout.ms
sasl.login.read.timeout.ms
sasl.login.refresh.buffer.seconds
sasl.login.refresh.min.period.seconds
sasl.login.refresh.window.factor
sasl.login.refresh.window.jitter
sasl.login.retry.backoff.max.ms
sasl.login.retry.backoff.ms
sasl.mechanism.controller.protocol
sasl.mechanism.inter.broker.protocol
sasl.oauthbearer.assertion.algorithm
sasl.oauthbearer.assertion.claim.aud
sasl.oauthbearer.assertion.claim.exp.seconds
sasl.oauthbearer.assertion.claim.iss
sasl.oauthbearer.assertion.claim.jti.include
sasl.oauthbearer.assertion.claim.nbf.seconds
sasl.oauthbearer.assertion.claim.sub
sasl.oauthbearer.assertion.file
sasl.oauthbearer.assertion.private.key.file
sasl.oauthbearer.assertion.private.key.passphrase
sasl.oauthbearer.assertion.template.file
sasl.oauthbearer.client.credentials.client.id
sasl.oauthbearer.client.credentials.client.secret
sasl.oauthbearer.clock.skew.seconds
sasl.oauthbearer.expected.audience
sasl.oauthbearer.expected.issuer
sasl.oauthbearer.jwks.endpoint.refresh.ms
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms
sasl.oauthbearer.jwks.endpoint.url
sasl.oauthbearer.jwt.retriever.class
sasl.oauthbearer.jwt.validator.class
sasl.oauthbearer.scope
sasl.oauthbearer.scope.claim.name
sasl.oauthbearer.sub.claim.name
sasl.oauthbearer.token.endpoint.url
sasl.server.callback.handler.class
sasl.server.max.receive.size
security.inter.broker.protocol
security.providers
ssl.allow.dn.changes
ssl.allow.san.changes
ssl.cipher.suites
ssl.client.auth
ssl.enabled.protocols
ssl.endpoint.identification.algorithm
ssl.engine.factory.class
ssl.key.password
ssl.keymanager.algorithm
ssl.keystore.certificate.chain
ssl.keystore.key
ssl.keystore.location
ssl.keystore.password
ssl.keystore.type
ssl.principal.mapping.rules
ssl.protocol
ssl.provider
ssl.secure.random.implementation
ssl.trustmanager.algorithm
ssl.truststore.certificates
ssl.truststore.location
ssl.truststore.password
ssl.truststore.type
`},
		{"there are no access rules: whoever reaches a listener may do everything. A broker that is told to have some does not start", `
authorizer.class.name
`},
		{"Java classes cannot be loaded", `
alter.config.policy.class.name
client.quota.callback.class
config.providers
create.topic.policy.class.name
kafka.metrics.reporters
metric.reporters
replica.selector.class
`},
		{"the bucket is set by strata.bucket.url and tuned by strata.* settings", `
follower.fetch.last.tiered.offset.enable
remote.log.index.file.cache.total.size.bytes
remote.log.index.file.cache.ttl.ms
remote.log.manager.copy.quota.window.num
remote.log.manager.copy.quota.window.size.seconds
remote.log.manager.fetch.quota.window.num
remote.log.manager.fetch.quota.window.size.seconds
remote.log.manager.task.retry.backoff.max.ms
remote.log.manager.task.retry.backoff.ms
remote.log.manager.task.retry.jitter
remote.log.metadata.custom.metadata.max.bytes
remote.log.metadata.manager.class.name
remote.log.metadata.manager.class.path
remote.log.metadata.manager.impl.prefix
remote.log.metadata.manager.listener.name
remote.log.storage.manager.class.name
remote.log.storage.manager.class.path
remote.log.storage.manager.impl.prefix
remote.log.storage.system.enable
`},
		{"the metadata quorum is of its own kind and tunes itself", `
auto.leader.rebalance.enable
broker.heartbeat.interval.ms
broker.id
broker.session.timeout.ms
controller.performance.always.log.threshold.ms
controller.performance.sample.period.ms
controller.quorum.append.linger.ms
controller.quorum.auto.join.enable
controller.quorum.election.backoff.max.ms
controller.quorum.election.timeout.ms
controller.quorum.fetch.max.bytes
controller.quorum.fetch.snapshot.max.bytes
controller.quorum.fetch.timeout.ms
controller.quorum.request.timeout.ms
controller.quorum.retry.backoff.ms
controller.quorum.voters
controller.quota.window.num
controller.quota.window.size.seconds
controller.socket.timeout.ms
initial.broker.registration.timeout.ms
leader.imbalance.check.interval.seconds
metadata.log.dir
metadata.log.max.record.bytes.between.snapshots
metadata.log.max.snapshot.interval.ms
metadata.log.segment.bytes
metadata.log.segment.ms
metadata.max.idle.interval.ms
metadata.max.retention.bytes
metadata.max.retention.ms
unclean.leader.election.interval.ms
`},
		{"a cluster of one broker replicates nothing", `
alter.log.dirs.replication.quota.window.num
alter.log.dirs.replication.quota.window.size.seconds
controlled.shutdown.enable
cordoned.log.dirs
follower.replication.throttled.rate
inter.broker.listener.name
leader.replication.throttled.rate
log.dir.failure.timeout.ms
replica.alter.log.dirs.io.max.bytes.per.second
replica.fetch.backoff.ms
replica.fetch.max.bytes
replica.fetch.min.bytes
replica.fetch.response.max.bytes
replica.fetch.wait.max.ms
replica.high.watermark.checkpoint.interval.ms
replica.lag.time.max.ms
replica.socket.receive.buffer.bytes
replica.socket.timeout.ms
replication.quota.window.num
replication.quota.window.size.seconds
`},
		{"the transaction coordinator is not served", `
add.partitions.to.txn.retry.backoff.max.ms
add.partitions.to.txn.retry.backoff.ms
transaction.abort.timed.out.transaction.cleanup.interval.ms
transaction.max.timeout.ms
transaction.partition.verification.enable
transaction.remove.expired.transaction.cleanup.interval.ms
transaction.state.log.load.buffer.size
transaction.state.log.min.isr
transaction.state.log.num.partitions
transaction.state.log.replication.factor
transaction.state.log.segment.bytes
transaction.two.phase.commit.enable
transactional.id.expiration.ms
`},
		{"metrics are read at scrape, at strata.http.listen", `
kafka.metrics.polling.interval.secs
metrics.num.samples
metrics.recording.level
metrics.sample.window.ms
telemetry.max.bytes
`},
		{"there are no quotas", `
max.connection.creation.rate
max.connections.per.ip.overrides
quota.window.num
quota.window.size.seconds
`},
		{"the log writes, syncs and checkpoints in its own way", `
log.cleaner.io.buffer.size
log.flush.start.offset.checkpoint.interval.ms
log.preallocate
log.segment.delete.delay.ms
producer.id.expiration.check.interval.ms
`},
		{"the coordinator replies once records are durable and loads in its own steps", `
group.coordinator.append.linger.ms
group.coordinator.cached.buffer.max.bytes
offsets.commit.timeout.ms
offsets.load.buffer.size
offsets.topic.compression.codec
`},
		{"the operating system's value is used", `
request.timeout.ms
socket.connection.setup.timeout.max.ms
socket.connection.setup.timeout.ms
socket.listen.backlog.size
`},
		{"only what is served is advertised", `
unstable.api.versions.enable
unstable.feature.versions.enable
`},
	}
}
