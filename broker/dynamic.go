package broker

import (
	"slices"
	"strconv"

	"github.com/stratabroker/strata/metadata"
)

// follow gives the parts of the broker what its dynamic settings say in an image;
// those that are asked at each use, and the topics', need no telling. It runs on the
// quorum's applying goroutine, and once before serving.
func (b *Broker) follow(d metadata.Delta, img *metadata.Image) {
	self := strconv.Itoa(int(b.self()))
	if !slices.ContainsFunc(d.Configs, func(r metadata.Resource) bool {
		return r.Type == metadata.BrokerResource && (r.Name == "" || r.Name == self)
	}) {
		return
	}
	number := func(name string) int { return int(b.cfg.Static.BrokerInt(img, name)) }
	if server := b.server.Load(); server != nil {
		server.SetLimits(number("max.connections"), number("max.connections.per.ip"))
	}
	if b.bucket != nil {
		b.bucket.reader.SetParallel(number("remote.log.reader.threads"))
		b.bucket.reader.SetQuota(b.cfg.Static.BrokerInt(img, "remote.log.manager.fetch.max.bytes.per.second"))
		b.bucket.archiver.SetQuota(b.cfg.Static.BrokerInt(img, "remote.log.manager.copy.max.bytes.per.second"))
		b.bucket.archiver.SetParallel(number("remote.log.manager.copier.thread.pool.size"))
	}
}

// own is a delta that says that the settings of all brokers changed.
func own() metadata.Delta {
	return metadata.Delta{Configs: []metadata.Resource{{Type: metadata.BrokerResource}}}
}

// notify tells the archiver whose policy changed.
func (k *bucket) notify(configs []metadata.Resource) {
	if len(configs) == 0 {
		return
	}
	all := slices.ContainsFunc(configs, func(r metadata.Resource) bool { return r.Type == metadata.BrokerResource })
	for l := range k.broker.replicas.Tiered {
		if all || slices.Contains(configs, metadata.Resource{Type: metadata.TopicResource, Name: l.Topic()}) {
			k.archiver.Notify(l.Key())
		}
	}
}
