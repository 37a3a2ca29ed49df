package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// ConfigOp is one operation of IncrementalAlterConfigs, by its number on the wire.
type ConfigOp int8

// Operations of KIP-339.
const (
	OpSet ConfigOp = iota
	OpDelete
	OpAppend
	OpSubtract
)

// String is Kafka's name of the operation.
func (o ConfigOp) String() string {
	names := [...]string{"SET", "DELETE", "APPEND", "SUBTRACT"}
	if o < 0 || int(o) >= len(names) {
		return strconv.Itoa(int(o))
	}
	return names[o]
}

// ConfigChange changes one setting. Value is nil where the client sent null.
type ConfigChange struct {
	Name  string
	Op    ConfigOp
	Value *string
}

// AlterConfigs changes some overrides of one resource, all or none.
func (a *Admin) AlterConfigs(ctx context.Context, r metadata.Resource, changes []ConfigChange, validateOnly bool) error {
	if err := CheckChanges(changes); err != nil {
		return err
	}
	img := a.Image()
	k, err := a.kind(img, r)
	if err != nil {
		return err
	}
	next := overridesOf(img, r)
	if err := k.settable(changes); err != nil {
		return err
	}
	for _, c := range changes {
		if err := k.apply(next, c); err != nil {
			return err
		}
	}
	return a.replace(ctx, img, k, next, validateOnly)
}

// ReplaceConfigs makes these the only overrides of one resource (the legacy
// AlterConfigs): what is not named goes back to its default.
func (a *Admin) ReplaceConfigs(ctx context.Context, r metadata.Resource, whole []ConfigChange, validateOnly bool) error {
	if err := CheckChanges(whole); err != nil {
		return err
	}
	img := a.Image()
	k, err := a.kind(img, r)
	if err != nil {
		return err
	}
	next := map[string]string{}
	if err := k.settable(whole); err != nil {
		return err
	}
	for _, c := range whole {
		if err := k.apply(next, c); err != nil {
			return err
		}
	}
	return a.replace(ctx, img, k, next, validateOnly)
}

// CheckChanges refuses what no resource takes: a name twice, a value that is null.
func CheckChanges(changes []ConfigChange) error {
	seen := map[string]bool{}
	var null []string
	for _, c := range changes {
		if seen[c.Name] {
			return protocol.Errorf(kerr.InvalidRequest, "Error due to duplicate config keys")
		}
		seen[c.Name] = true
		if c.Value == nil && c.Op != OpDelete {
			null = append(null, c.Name)
		}
	}
	if len(null) > 0 {
		return protocol.Errorf(kerr.InvalidRequest, "Null value not supported for : %s", strings.Join(null, ", "))
	}
	return nil
}

func overridesOf(img *metadata.Image, r metadata.Resource) map[string]string {
	out := map[string]string{}
	for name, value := range img.Configs(r) {
		out[name] = value
	}
	return out
}

// replace proposes what makes next the overrides of a resource.
func (a *Admin) replace(ctx context.Context, img *metadata.Image, k kind, next map[string]string, validateOnly bool) error {
	was := overridesOf(img, k.resource)
	if err := k.check(was, next); err != nil {
		return protocol.Errorf(k.badValue, "%v", err)
	}
	cmd := &metadatapb.AlterConfigs{Type: int32(k.resource.Type), Name: k.resource.Name, TopicId: k.topicID}
	for name := range was {
		if _, kept := next[name]; !kept {
			cmd.Changes = append(cmd.Changes, &metadatapb.Config{Name: name})
		}
	}
	for name, value := range next {
		if old, had := was[name]; !had || old != value {
			cmd.Changes = append(cmd.Changes, &metadatapb.Config{Name: name, Value: &value})
		}
	}
	if validateOnly || len(cmd.Changes) == 0 {
		return nil
	}
	slices.SortFunc(cmd.Changes, func(x, y *metadatapb.Config) int { return strings.Compare(x.GetName(), y.GetName()) })
	if err := a.checkReserve(); err != nil && grows(was, cmd.Changes) {
		return err
	}
	return a.propose(ctx, &metadata.Command{Kind: &metadatapb.Command_AlterConfigs{AlterConfigs: cmd}})
}

// grows tells whether the changes add an override to the metadata. Retention
// does not count: to lower it is how space is freed.
func grows(was map[string]string, changes []*metadatapb.Config) bool {
	return slices.ContainsFunc(changes, func(c *metadatapb.Config) bool {
		_, had := was[c.GetName()]
		return c.Value != nil && !had && !strings.Contains(c.GetName(), "retention.")
	})
}

// kind is what differs between the resources that have settings in the metadata.
type kind struct {
	resource metadata.Resource
	topicID  []byte
	badValue *kerr.Error // the code of a value that is not allowed
	lookup   func(name string) (*metadata.Setting, bool)
	current  func(*metadata.Setting) string // what append and subtract begin from
	noList   func(op ConfigOp, name string) string
	// settable refuses names; check refuses values that do not fit together.
	settable func([]ConfigChange) error
	check    func(was, next map[string]string) error
}

// kind checks that the resource exists.
func (a *Admin) kind(img *metadata.Image, r metadata.Resource) (kind, error) {
	switch r.Type {
	case metadata.TopicResource:
		return a.topicKind(img, r)
	case metadata.BrokerResource:
		if err := a.checkBroker(r.Name); err != nil {
			return kind{}, err
		}
		return a.brokerKind(img, r), nil
	default:
		return kind{}, NoConfigs(r.Type)
	}
}

func (a *Admin) topicKind(img *metadata.Image, r metadata.Resource) (kind, error) {
	if r.Name == "" {
		return kind{}, protocol.Errorf(kerr.InvalidRequest, "Default topic resources are not allowed.")
	}
	if err := metadata.CheckTopicName(r.Name); err != nil {
		return kind{}, protocol.Errorf(kerr.InvalidTopicException, "%v", err)
	}
	t, ok := img.Topic(r.Name)
	if !ok {
		return kind{}, protocol.Errorf(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.Name)
	}
	return kind{
		resource: r, topicID: t.ID[:], badValue: kerr.InvalidConfig, lookup: metadata.TopicSetting,
		current: func(s *metadata.Setting) string { return a.cfg.Static.TopicValue(img, r.Name, s).Value },
		noList: func(op ConfigOp, name string) string {
			return fmt.Sprintf("Can't %s to key %s because its type is not LIST.", op, name)
		},
		settable: func(changes []ConfigChange) error {
			for _, c := range changes {
				if err := metadata.CheckTopicSettingName(c.Name); err != nil {
					return protocol.Errorf(kerr.InvalidConfig, "%v", err)
				}
			}
			return nil
		},
		check: func(was, next map[string]string) error { return a.cfg.Static.CheckTopicConfig(img, was, next) },
	}, nil
}

func (a *Admin) brokerKind(img *metadata.Image, r metadata.Resource) kind {
	return kind{
		resource: r, badValue: kerr.InvalidRequest, lookup: metadata.BrokerSetting, settable: checkDynamic,
		current: func(s *metadata.Setting) string { return a.cfg.Static.BrokerValue(img, r.Name, s).Value },
		noList: func(op ConfigOp, name string) string {
			return fmt.Sprintf("Config value %s is not allowed for config key: %s", strings.ToLower(op.String()), name)
		},
		check: func(_, next map[string]string) error { return a.cfg.Static.CheckBrokerConfig(img, r.Name, next) },
	}
}

// checkDynamic refuses broker settings that cannot change while the broker runs. To remove one is no change.
func checkDynamic(changes []ConfigChange) error {
	var names, reasons []string
	for _, c := range changes {
		_, known := metadata.BrokerSetting(c.Name)
		if why, ok := metadata.NotDynamic(c.Name); !ok && (c.Op != OpDelete || !known) {
			names = append(names, c.Name)
			if why != "" {
				reasons = append(reasons, "; "+why)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return protocol.Errorf(kerr.InvalidRequest, "Cannot update these configs dynamically: [%s]%s", strings.Join(names, ", "), strings.Join(reasons, ""))
}

// NoConfigs is the answer for a resource of a type that has no settings here.
func NoConfigs(t metadata.ResourceType) error {
	switch t {
	case metadata.ClientMetricsResource:
		return protocol.Errorf(kerr.InvalidRequest, "Client metrics are not collected here (KIP-714 is not served): there are no subscriptions to configure.")
	case metadata.GroupResource:
		return protocol.Errorf(kerr.InvalidRequest, "Groups have no configs here: consumer, share and streams groups are not served, and classic ones bring their own.")
	default:
		return protocol.Errorf(kerr.InvalidRequest, "Unknown resource type %d", t)
	}
}

// checkBroker tells whether name is this broker's number, or "" for all.
func (a *Admin) checkBroker(name string) error {
	if name == "" {
		return nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return protocol.Errorf(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", name)
	}
	if protocol.BrokerID(id) != a.cfg.Self {
		return protocol.Errorf(kerr.InvalidRequest, "Unexpected broker id, expected %d, but received %s", a.cfg.Self, name)
	}
	return nil
}

// apply makes one change to the overrides; its name has passed settable.
func (k *kind) apply(next map[string]string, c ConfigChange) error {
	if c.Op == OpDelete {
		delete(next, c.Name)
		return nil
	}
	s, ok := k.lookup(c.Name)
	if !ok {
		return protocol.Errorf(kerr.InvalidConfig, "unknown configuration %s", c.Name)
	}
	value := *c.Value
	if c.Op == OpAppend || c.Op == OpSubtract {
		if s.Type != metadata.ListSetting {
			return protocol.Errorf(kerr.InvalidConfig, "%s", k.noList(c.Op, c.Name))
		}
		if err := s.Check(value); err != nil || c.Op == OpAppend && strings.TrimSpace(value) == "" {
			return protocol.Errorf(k.badValue, "%v", cmp.Or(err, error(&metadata.SettingError{Name: c.Name, Value: value, Want: "Members of the list must not be empty"})))
		}
		current, own := next[c.Name]
		if !own {
			current = k.current(s)
		}
		value = combine(current, value, c.Op)
	} else if c.Op != OpSet {
		return protocol.Errorf(kerr.InvalidRequest, "unknown operation %d on %s", c.Op, c.Name)
	}
	if err := s.Check(value); err != nil {
		return protocol.Errorf(k.badValue, "%v", err)
	}
	next[c.Name] = value
	return nil
}

func combine(current, value string, op ConfigOp) string {
	members := metadata.SplitList(current)
	for _, m := range metadata.SplitList(value) {
		at := slices.Index(members, m)
		switch {
		case op == OpAppend && at < 0:
			members = append(members, m)
		case op == OpSubtract && at >= 0:
			members = slices.Delete(members, at, at+1)
		}
	}
	return strings.Join(members, ",")
}
