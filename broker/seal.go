package broker

import (
	"context"
	"time"

	"github.com/stratabroker/strata/broker/admin"
)

// sealInternal seals what internal topics have of news once an interval, until ctx ends: only what is sealed goes to the
// bucket, and their segments fill slowly. One partition with steady commits costs two PUTs an interval, one without none.
func (k *bucket) sealInternal(ctx context.Context) {
	interval := k.broker.cfg.Static.Millis("strata.offsets.seal.interval.ms")
	if interval <= 0 {
		return
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.sealNews()
		}
	}
}

// sealNews rolls what is not in the bucket. While something sealed waits for its upload, nothing more is sealed: an
// outage makes no chain of small segments.
func (k *bucket) sealNews() {
	img := k.broker.node.Image()
	for l := range k.broker.replicas.Tiered {
		if !admin.Internal(l.Topic()) || l.Closed() != nil || l.Config().RemoteCopyDisable {
			continue
		}
		row, _ := img.Partition(l.Key())
		tiered := row.Manifest.TieredEnd
		waiting, err := l.Log().Sealed(max(tiered, l.Log().Start()), l.Log().LEO())
		if err == nil && (len(waiting) > 0 || l.HighWatermark() <= tiered) {
			continue
		}
		if err == nil {
			err = l.Log().Roll()
		}
		if err != nil && l.Closed() == nil {
			k.logger.Warn("an internal topic cannot be sealed; it is tried again", "topic", l.Topic(), "partition", l.Key().Partition, "error", err)
		}
	}
}
