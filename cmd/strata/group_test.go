package main_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/harness"
)

// groups is a broker with a topic of two partitions, 5 records in each, of which
// group g has committed 5 and 3.
func groups(t *testing.T) *harness.Broker {
	t.Helper()
	b := harness.Start(t, harness.Options{})
	t.Setenv("STRATA_BOOTSTRAP", b.Addr)
	ok(t, "", "topic", "create", "t", "--partitions", "2")
	for _, partition := range []string{"0", "1"} {
		ok(t, "1000 a\n2000 b\n3000 c\n4000 d\n5000 e\n", "produce", "t", "--partition", partition, "--timestamp-separator", " ")
	}
	want(t, object(t, "group", "reset-offsets", "g", "--topic", "t", "--to", "end", "--execute"),
		`{"group":"g","executed":true,"partitions":[{"topic":"t","partition":0,"committed":-1,"new":5},{"topic":"t","partition":1,"committed":-1,"new":5}]}`)
	ok(t, "", "group", "reset-offsets", "g", "--topic", "t:1", "--to", "3", "--execute")
	return b
}

func TestGroupsAreListedAndDescribedWithTheirLag(t *testing.T) {
	groups(t)
	want(t, object(t, "group", "list"), `{"groups":[{"group":"g","state":"Empty","protocol_type":"","coordinator":1}]}`)
	want(t, object(t, "group", "list", "--state", "Stable"), `{"groups":[]}`)
	got := field(t, object(t, "group", "describe", "g"), "groups", 0)
	want(t, field(t, got, "state"), `"Empty"`)
	want(t, field(t, got, "lag"), "2")
	want(t, field(t, got, "partitions", 1), `{"topic":"t","partition":1,"committed":3,"log_end":5,"lag":2,"metadata":"","member_id":"","client_id":"","host":""}`)
	text := ok(t, "", "group", "describe", "g")
	if !strings.HasPrefix(text, "g  state Empty, 0 members") || !strings.Contains(text, "t      1          3          5    2    -       -       -\n") {
		t.Errorf("the table is\n%s", text)
	}
	refused(t, 1, []string{"group", "describe", "none"}, "group none", "GROUP_ID_NOT_FOUND", "strata group list")
}

func TestAResetShowsWhatItWouldDoUntilItIsToldTo(t *testing.T) {
	groups(t)
	stdout, stderr, code := strata(t, "", "group", "reset-offsets", "g", "--topic", "t", "--to", "beginning")
	if code != 0 || !strings.Contains(stdout, "t      1          3          0\n") || !strings.Contains(stderr, "nothing was changed") {
		t.Errorf("status %d: %s%s", code, stdout, stderr)
	}
	want(t, field(t, object(t, "group", "describe", "g"), "groups", 0, "partitions", 1, "committed"), "3")
	for _, tc := range []struct {
		args []string
		want string // of partitions 0 and 1
	}{
		{[]string{"--all-topics", "--to", "beginning"}, `[0,0]`},
		{[]string{"--topic", "t", "--to", "1970-01-01T00:00:03Z"}, `[2,2]`},
		{[]string{"--topic", "t:0", "--to", "99"}, `[5,2]`},
		{[]string{"--all-topics", "--shift-by", "-1"}, `[4,1]`},
		{[]string{"--all-topics", "--shift-by", "-9"}, `[0,0]`},
		{[]string{"--topic", "t:0,1", "--shift-by", "9"}, `[5,5]`},
	} {
		ok(t, "", append([]string{"group", "reset-offsets", "g", "--execute"}, tc.args...)...)
		partitions := field(t, object(t, "group", "describe", "g"), "groups", 0, "partitions")
		want(t, []any{field(t, partitions, 0, "committed"), field(t, partitions, 1, "committed")}, tc.want)
	}
	refused(t, 1, []string{"group", "reset-offsets", "g", "--topic", "t:7", "--to", "end"}, "t has no partition 7")
	refused(t, 1, []string{"group", "reset-offsets", "g", "--topic", "none", "--to", "end"}, "topic none")
	refused(t, 1, []string{"group", "reset-offsets", "new", "--topic", "t", "--shift-by", "1"}, "nothing is committed", "use --to")
	refused(t, 1, []string{"group", "reset-offsets", "new", "--all-topics", "--to", "end"}, "has committed nothing", "--topic")
}

func TestGroupsAndTheirOffsetsAreDeleted(t *testing.T) {
	groups(t)
	want(t, object(t, "group", "delete-offsets", "g", "--topic", "t:1"), `{"group":"g","partitions":[{"topic":"t","partition":1,"result":"deleted"}]}`)
	want(t, field(t, object(t, "group", "describe", "g"), "groups", 0, "partitions", 0, "committed"), "5")
	refused(t, 1, []string{"group", "delete-offsets", "none", "--topic", "t"}, "group none", "strata group list")
	want(t, object(t, "group", "delete", "g"), `{"results":[{"group":"g","result":"deleted"}]}`)
	want(t, object(t, "group", "list"), `{"groups":[]}`)
	refused(t, 1, []string{"group", "delete", "g"}, "not deleted: g:", "strata group list")
}

func TestAGroupWithMembersIsNeitherResetNorDeleted(t *testing.T) {
	groups(t)
	cmd, _, stdout, _ := start(t, "consume", "t", "--group", "g")
	harness.Eventually(t, waitLimit, "the member reads", func() error {
		if strings.Count(stdout.String(), "\n") < 2 {
			return errors.New("it has not read yet")
		}
		return nil
	})
	for _, args := range [][]string{
		{"group", "reset-offsets", "g", "--all-topics", "--to", "end", "--execute"}, {"group", "delete", "g"}, {"group", "delete-offsets", "g", "--topic", "t"},
	} {
		refused(t, 1, args, "stop ", "strata group describe --members")
	}
	got := field(t, object(t, "group", "describe", "g", "--members"), "groups", 0)
	want(t, field(t, got, "state"), `"Stable"`)
	want(t, field(t, got, "members", 0, "assigned"), `{"t":[0,1]}`)
	if text := ok(t, "", "group", "describe", "g", "--members"); !strings.Contains(text, "strata-cli") || !strings.Contains(text, "t:0,1") {
		t.Errorf("the table is\n%s", text)
	}
	_ = cmd.Process.Kill() // Wait tells
	_ = cmd.Wait()         // it was killed
}

func TestTrimMovesTheStartOfPartitions(t *testing.T) {
	groups(t)
	want(t, object(t, "topic", "trim", "t", "--before", "1970-01-01T00:00:03Z", "--partition", "1"), `{"partitions":[{"topic":"t","partition":1,"log_start":2}]}`)
	if got := ok(t, "", "consume", "t", "--until-end", "--partition", "1"); got != "c\nd\ne\n" {
		t.Errorf("what is left is %q", got)
	}
	if out := ok(t, "", "topic", "trim", "t", "--before", "end"); out != "TOPIC  PARTITION  START\nt      0          5\nt      1          5\n" {
		t.Errorf("the table is\n%s", out)
	}
	refused(t, 1, []string{"topic", "trim", "t", "--before", "end", "--partition", "7"}, "t has no partition 7")
	refused(t, 1, []string{"topic", "trim", "none", "--before", "end"}, "topic none")
}
