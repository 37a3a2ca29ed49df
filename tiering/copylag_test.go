package tiering_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/plan"
)

func TestASealedSegmentIsUploadedOnceItsCopyLagIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.setPolicy(k, plan.Policy{RetentionMs: -1, RetentionBytes: -1, CopyLagMs: 600_000, CopyLagBytes: plan.Unlimited})
		w.seal(k, 10, 100, protocol.Timestamp(time.Now().UnixMilli()-10))
		w.start(w.archiver().Run)
		time.Sleep(9 * time.Minute)
		wantLines(t, w.store.take())
		time.Sleep(2 * time.Minute)
		wantLines(t, w.store.take(), "put segment [0, 10)", "put manifest 1", "commit manifest 1 over 0, [0, 10)")
	})
}
