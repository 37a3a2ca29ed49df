package integration_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/metadata"
)

// measuredConfigs holds what Kafka says of each of its settings and how it
// answers changes, a line each. It is written by
//
//	go test ./integration -run TestConfigs -measure HOST:PORT
//
// against a Kafka as measured wants it.
const measuredConfigs = "testdata/configs-kafka-4.3.1.txt"

// configsOf asks for the settings of one resource; a broker is asked by its number, 1.
func (o *odd) configsOf(kind kmsg.ConfigResourceType, name string, keys ...string) *kmsg.DescribeConfigsResponse {
	req := at(4, kmsg.NewPtrDescribeConfigsRequest())
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: o.prefixed(name), ConfigNames: keys}}
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	return must[*kmsg.DescribeConfigsResponse](o.wire, req)
}

// described is configsOf in the order of names: Kafka's is that of a hash table.
func (o *odd) described(r resource) []described {
	configs := o.configsOf(r.kind, r.name).Resources[0].Configs
	slices.SortFunc(configs, func(a, b described) int { return strings.Compare(a.Name, b.Name) })
	return configs
}

// prefixed puts the names' prefix where ~ stands.
func (o *odd) prefixed(name string) string { return strings.ReplaceAll(name, "~", o.prefix) }

type described = kmsg.DescribeConfigsResponseResourceConfig

// ofTopic is all that is said of a topic's setting but for its documentation.
func ofTopic(c described) string {
	out := fmt.Sprintf("%s %s from %s", c.ConfigType, text(c.Value), c.Source)
	if c.ReadOnly {
		out += " read-only"
	}
	if c.IsSensitive {
		out += " sensitive"
	}
	return out + " [" + each(c.ConfigSynonyms, func(s kmsg.DescribeConfigsResponseResourceConfigConfigSynonym) string {
		return fmt.Sprintf("%s=%s from %s", s.Name, text(s.Value), s.Source)
	}) + "]"
}

// ofBroker is what is said of a broker's setting whatever its file says.
func ofBroker(c described) string {
	out := c.ConfigType.String()
	if c.ReadOnly {
		out += " read-only"
	}
	if c.IsSensitive {
		out += " sensitive"
	}
	out += " ["
	for _, s := range c.ConfigSynonyms {
		if s.Source == kmsg.ConfigSourceDefaultConfig {
			out += fmt.Sprintf("%s=%s", s.Name, text(s.Value))
		}
	}
	return out + "]"
}

func text(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// asked is one line of measuredConfigs.
type asked struct{ name, answer string }

// askConfigs describes a topic as it was made, one whose settings come from everywhere, and the broker.
func askConfigs(t *testing.T, addr string) []asked {
	t.Helper()
	o := furnishConfigs(t, addr)
	var out []asked
	for _, topic := range []string{"bare", "set"} {
		for _, c := range o.described(topicOf("~" + topic)) {
			out = append(out, asked{topic + " topic's " + c.Name, ofTopic(c)})
		}
	}
	for _, c := range o.described(brokerOf("1")) {
		out = append(out, asked{"broker's " + c.Name, ofBroker(c)})
	}
	for _, c := range configChanges() {
		out = append(out, asked{c.name, strings.ReplaceAll(c.ask(&odd{wire: dialWire(t, addr), addr: addr, prefix: o.prefix}), o.prefix, "")})
	}
	return out
}

// TestConfigsAreKafkas compares all that is said of each setting, and the
// answers to changes with their messages.
func TestConfigsAreKafkas(t *testing.T) {
	if *measure != "" {
		var lines []string
		for _, a := range askConfigs(t, *measure) {
			lines = append(lines, a.name+": "+a.answer+"\n")
		}
		if err := os.WriteFile(measuredConfigs, []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := readMeasured(t, measuredConfigs)
	broker := harness.Start(t, harness.Options{Set: map[string]string{"strata.remote.storage.enable": "false"}})
	seen := map[string]bool{}
	for _, a := range askConfigs(t, broker.Addr) {
		seen[a.name] = true
		kafkas, known := want[a.name]
		d, differs := configDifferences()[a.name]
		switch {
		case differs && a.answer != d.answer:
			t.Errorf("%s: %s, want %s (%s)", a.name, a.answer, d.answer, d.reason)
		case differs && a.answer == kafkas:
			t.Errorf("%s: %s is what Kafka answers, and listed as a difference", a.name, a.answer)
		case !differs && !known && !strings.Contains(a.name, "s strata."):
			t.Errorf("%s: %s, and Kafka has no such setting", a.name, a.answer)
		case !differs && known && a.answer != kafkas:
			t.Errorf("%s: %s, Kafka answers %s", a.name, a.answer, kafkas)
		}
	}
	for name := range want {
		setting, _ := metadata.BrokerSetting(strings.TrimPrefix(name, "broker's "))
		if !seen[name] && (setting == nil || !setting.Ignored) {
			t.Errorf("Kafka tells %s, which is neither told nor known to have no effect", name)
		}
	}
}
