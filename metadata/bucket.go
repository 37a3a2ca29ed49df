package metadata

import "github.com/stratabroker/strata/protocol"

// Root is a retained recovery point.
type Root struct {
	Seq   uint64
	Place PagePlace
	Cut   Attempt
	AtMs  protocol.Timestamp
}

// Bucket is the cluster's bond with its bucket.
type Bucket struct {
	URL        string
	Generation uint64 // 0: no bucket bound
	Floor      Attempt
	FloorAtMs  protocol.Timestamp
	Roots      []Root // ascending Seq
}
