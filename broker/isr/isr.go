// Package isr decides, for the leader of one partition, how far its replicas
// have come: the high watermark out of the durable offsets of the in-sync
// replicas (DESIGN D5, D12). It is pure; broker/replica calls it under its lock.
package isr

import "github.com/stratabroker/strata/protocol"

// EffectiveMin is how many in-sync replicas a write needs: min.insync.replicas,
// but never more than there are replicas.
func EffectiveMin(minISR, replicas int) int { return max(1, min(minISR, replicas)) }

// HighWatermark is the lowest durable offset of the in-sync replicas, the
// leader's own included, and never below the current one. It does not advance
// while fewer than minimum replicas are in sync (KIP-966), nor while one of
// them has not reported (NoOffset).
func HighWatermark(current protocol.Offset, durable []protocol.Offset, minimum int) protocol.Offset {
	if len(durable) < minimum || len(durable) == 0 {
		return current
	}
	lowest := durable[0]
	for _, d := range durable[1:] {
		lowest = min(lowest, d)
	}
	return max(current, lowest)
}
