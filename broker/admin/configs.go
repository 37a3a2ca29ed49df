package admin

import (
	"context"
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

// ConfigChange changes one setting. Value is nil where the client sent null.
type ConfigChange struct {
	Name  string
	Op    ConfigOp
	Value *string
}

// AlterConfigs changes the overrides of one resource, all or none.
func (a *Admin) AlterConfigs(ctx context.Context, r metadata.Resource, changes []ConfigChange, validateOnly bool) error {
	img := a.Image()
	cmd := &metadatapb.AlterConfigs{Type: int32(r.Type), Name: r.Name}
	was := map[string]string{}
	for name, value := range img.Configs(r) {
		was[name] = value
	}
	lookup, err := a.resource(img, r, cmd)
	if err != nil {
		return err
	}
	next := map[string]string{}
	for name, value := range was {
		next[name] = value
	}
	seen := map[string]bool{}
	for _, c := range changes {
		if seen[c.Name] {
			return protocol.Errorf(kerr.InvalidRequest, "configuration %s is given twice", c.Name)
		}
		seen[c.Name] = true
		if err := apply(lookup, next, c, a.current(img, r, c.Name)); err != nil {
			return err
		}
		row := &metadatapb.Config{Name: c.Name}
		if v, ok := next[c.Name]; ok {
			row.Value = &v
		}
		cmd.Changes = append(cmd.Changes, row)
	}
	if r.Type == metadata.TopicResource {
		if err := a.cfg.Static.CheckTopicConfig(img, was, next); err != nil {
			return protocol.Errorf(kerr.InvalidConfig, "%v", err)
		}
	}
	if validateOnly || len(cmd.Changes) == 0 {
		return nil
	}
	if err := a.checkReserve(); err != nil && grows(was, cmd.Changes) {
		return err
	}
	err = a.propose(ctx, &metadata.Command{Kind: &metadatapb.Command_AlterConfigs{AlterConfigs: cmd}})
	return err
}

// grows tells whether the changes add an override to the metadata. Retention
// does not count: to lower it is how space is freed.
func grows(was map[string]string, changes []*metadatapb.Config) bool {
	return slices.ContainsFunc(changes, func(c *metadatapb.Config) bool {
		_, had := was[c.GetName()]
		return c.Value != nil && !had && !strings.Contains(c.GetName(), "retention.")
	})
}

// resource checks that the resource exists and tells how its settings are looked up.
func (a *Admin) resource(img *metadata.Image, r metadata.Resource, cmd *metadatapb.AlterConfigs) (func(string) (*metadata.Setting, error), error) {
	switch r.Type {
	case metadata.TopicResource:
		if r.Name == "" {
			return nil, protocol.Errorf(kerr.InvalidRequest, "Default topic resources are not allowed.")
		}
		t, ok := img.Topic(r.Name)
		if !ok {
			return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.Name)
		}
		cmd.TopicId = t.ID[:]
		return func(name string) (*metadata.Setting, error) {
			if s, ok := metadata.TopicSetting(name); ok {
				return s, nil
			}
			return nil, protocol.Errorf(kerr.InvalidConfig, "Unknown topic config name: %s", name)
		}, nil
	case metadata.BrokerResource:
		if err := a.CheckBroker(img, r.Name); err != nil {
			return nil, err
		}
		return func(name string) (*metadata.Setting, error) {
			s, ok := metadata.BrokerSetting(name)
			if !ok || s.Update != metadata.Dynamic {
				return nil, protocol.Errorf(kerr.InvalidRequest, "Cannot update these configs dynamically: %s", name)
			}
			return s, nil
		}, nil
	}
	return nil, protocol.Errorf(kerr.InvalidRequest, "resource type %d has no configs here: topics (2) and brokers (4) have", r.Type)
}

// CheckBroker tells whether name is a broker's number, or "" for all.
func (a *Admin) CheckBroker(img *metadata.Image, name string) error {
	if name == "" {
		return nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return protocol.Errorf(kerr.InvalidRequest, "broker name %q: want a broker's number or nothing", name)
	}
	if _, ok := img.Broker(protocol.BrokerID(id)); !ok {
		return protocol.Errorf(kerr.InvalidRequest, "broker %d is not registered", id)
	}
	return nil
}

// current is the value that append and subtract begin from.
func (a *Admin) current(img *metadata.Image, r metadata.Resource, name string) string {
	if r.Type == metadata.TopicResource {
		if s, ok := metadata.TopicSetting(name); ok {
			return a.cfg.Static.TopicValues(img, r.Name, s)[0].Value
		}
		return ""
	}
	if s, ok := metadata.BrokerSetting(name); ok {
		if values := a.cfg.Static.BrokerValues(img, r.Name, s); len(values) > 0 {
			return values[0].Value
		}
	}
	return ""
}

func apply(lookup func(string) (*metadata.Setting, error), next map[string]string, c ConfigChange, current string) error {
	s, err := lookup(c.Name)
	if err != nil {
		return err
	}
	if c.Op == OpDelete {
		delete(next, c.Name)
		return nil
	}
	if c.Value == nil {
		return protocol.Errorf(kerr.InvalidRequest, "Null value not supported for : %s", c.Name)
	}
	value := *c.Value
	if c.Op == OpAppend || c.Op == OpSubtract {
		if s.Type != metadata.ListSetting {
			return protocol.Errorf(kerr.InvalidConfig, "Can't append to or subtract from %s, which is not a list.", c.Name)
		}
		value = combine(current, value, c.Op)
	} else if c.Op != OpSet {
		return protocol.Errorf(kerr.InvalidRequest, "unknown operation %d on %s", c.Op, c.Name)
	}
	if err := s.Check(value); err != nil {
		return protocol.Errorf(kerr.InvalidConfig, "%v", err)
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
