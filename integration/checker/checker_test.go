package checker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/checker"
	"github.com/stratabroker/strata/protocol"
)

var p0 = checker.Partition{Topic: "t"}

// good is a history without anomaly: two producers, ten values each in turn, all
// acknowledged, a reader on the way, a final read.
type good struct{ *checker.History }

func newGood() good {
	g := good{checker.NewHistory()}
	for i := range 20 {
		g.Sent(i%2, p0, name(i))
		ask := g.Ask(p0)
		g.Acked(p0, name(i), protocol.Offset(i))
		ask(0, protocol.Offset(i+1))
		g.Polled("live", p0, protocol.Offset(i), name(i))
	}
	g.readAll(20)
	return g
}

func name(i int) string { return fmt.Sprintf("v%02d", i) }

func (g good) readAll(n int) {
	for i := range n {
		g.Polled("final", p0, protocol.Offset(i), name(i))
	}
	g.Final("final", p0)
}

// send is one more value of producer 0 with its acknowledgement.
func (g good) send(value string, offset protocol.Offset) {
	g.Sent(0, p0, value)
	g.Acked(p0, value, offset)
}

func TestAGoodHistoryHasNoAnomaly(t *testing.T) {
	g := newGood()
	if found := g.Check(); len(found) > 0 {
		t.Fatal(checker.Lines(found))
	}
	if want := "1 partitions, 20 values sent, 20 acknowledged, 0 refused, 40 polled, 20 of them by the final read"; g.String() != want {
		t.Errorf("%s, want %s", g, want)
	}
	if g.Acks() != 20 {
		t.Errorf("%d acknowledged", g.Acks())
	}
}

func TestWhatIsNotKnownIsNoAnomaly(t *testing.T) {
	g := newGood()
	g.Sent(0, p0, "unknown") // no answer: it may be there or not
	g.Sent(1, p0, "refused")
	g.Refused(p0, "refused")
	g.Sent(1, p0, "unknown, and there")
	g.Polled("final", p0, 20, "unknown, and there")
	g.Final("final", p0)
	if found := g.Check(); len(found) > 0 {
		t.Fatal(checker.Lines(found))
	}
}

func TestWhatLiesBelowTheLogStartIsNotLost(t *testing.T) {
	g := good{checker.NewHistory()}
	for i := range 10 {
		g.send(name(i), protocol.Offset(i))
	}
	g.Ask(p0)(6, 10)
	for i := 6; i < 10; i++ {
		g.Polled("final", p0, protocol.Offset(i), name(i))
	}
	g.Final("final", p0)
	if found := g.Check(); len(found) > 0 {
		t.Fatal(checker.Lines(found))
	}
}

func TestPlantedAnomaliesAreFound(t *testing.T) {
	for _, c := range []struct {
		what  string
		want  checker.Kind
		plant func(good)
	}{
		{"a reader finds another value at an offset", checker.InconsistentOffset, func(g good) {
			g.Sent(0, p0, "x")
			g.Jumped("other", p0, 7, "x")
		}},
		{"two values are acknowledged at one offset", checker.InconsistentOffset, func(g good) { g.send("x", 3) }},
		{"a value is read twice", checker.Duplicate, func(g good) { g.Polled("live", p0, 20, name(4)) }},
		{"a value is acknowledged at two offsets", checker.Duplicate, func(g good) { g.Acked(p0, name(4), 20) }},
		{"an acknowledged value in the middle is not read", checker.LostWrite, func(g good) {
			for i := range 20 {
				if i != 11 {
					g.Jumped("last", p0, protocol.Offset(i), name(i))
				}
			}
			g.Final("last", p0)
		}},
		{"another value stands where one was acknowledged", checker.LostWrite, func(g good) {
			g.Sent(0, p0, "x")
			for i := range 20 {
				value := name(i)
				if i == 11 {
					value = "x"
				}
				g.Polled("last", p0, protocol.Offset(i), value)
			}
			g.Final("last", p0)
		}},
		{"the end is gone", checker.Unseen, func(g good) { g.send("x", 20) }},
		{"nothing is there any more", checker.Unseen, func(g good) { g.Final("nobody", p0) }},
		{"a refused value is read", checker.AbortedRead, func(g good) {
			g.Sent(0, p0, "x")
			g.Refused(p0, "x")
			g.Polled("live", p0, 20, "x")
		}},
		{"a value comes from nowhere", checker.Phantom, func(g good) { g.Polled("live", p0, 20, "x") }},
		{"a later value lies before an earlier one", checker.SendReorder, func(g good) {
			g.send("x", 21)
			g.send("y", 20)
		}},
		{"an earlier value is missing", checker.SendSkip, func(g good) {
			g.Sent(0, p0, "x")
			g.send("y", 20)
		}},
		{"a reader goes back", checker.PollReorder, func(g good) { g.Polled("live", p0, 19, name(19)) }},
		{"a reader skips", checker.PollSkip, func(g good) {
			g.Sent(0, p0, "x")
			g.Polled("live", p0, 21, "x")
		}},
		{"the final read begins late", checker.PollSkip, func(g good) {
			for i := 1; i < 20; i++ {
				g.Polled("last", p0, protocol.Offset(i), name(i))
			}
			g.Final("last", p0)
		}},
		{"the log start goes back", checker.StartWentBack, func(g good) {
			g.Ask(p0)(5, 20)
			g.Ask(p0)(4, 20)
		}},
		{"the high watermark goes back", checker.EndWentBack, func(g good) {
			g.Ask(p0)(0, 25)
			g.Ask(p0)(0, 24)
		}},
		{"the high watermark is below an acknowledged record", checker.EndBelowAck, func(g good) { g.Ask(p0)(0, 19) }},
	} {
		g := newGood()
		c.plant(g)
		found := g.Check()
		if !slices.ContainsFunc(found, func(a checker.Anomaly) bool { return a.Kind == c.want && a.Partition == p0 }) {
			t.Errorf("%s: no %s in\n%s", c.what, c.want, checker.Lines(found))
		}
	}
}

func TestLinesAreBounded(t *testing.T) {
	found := make([]checker.Anomaly, 25)
	if text := checker.Lines(found); strings.Count(text, "\n") != 21 || !strings.HasSuffix(text, "and 5 more\n") {
		t.Error(text)
	}
}
