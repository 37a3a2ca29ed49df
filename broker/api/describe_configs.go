package api

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

type (
	configResource = kmsg.DescribeConfigsRequestResource
	configAnswer   = kmsg.DescribeConfigsResponseResourceConfig
)

// DescribeConfigs, versions 1 to 4, of topics, brokers and their loggers: every
// setting of the tables with its value, where that came from and, if asked, what else
// would apply (synonyms) and what it means.
func (h *Handler) describeConfigs(req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp, img := kmsg.NewPtrDescribeConfigsResponse(), h.cfg.Admin.Image()
	type asked struct {
		kind kmsg.ConfigResourceType
		name string
	}
	seen := map[asked]bool{} // each is told once
	for _, r := range req.Resources {
		what := asked{r.ResourceType, r.ResourceName}
		if seen[what] {
			continue
		}
		seen[what] = true
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		var err error
		switch t := metadata.ResourceType(r.ResourceType); t {
		case metadata.TopicResource:
			out.Configs, err = h.topicConfigs(img, req, r)
		case metadata.BrokerResource:
			out.Configs, err = h.brokerConfigs(img, req, r)
		case metadata.LoggerResource:
			out.Configs, err = h.loggerConfigs(r)
		default:
			err = admin.NoConfigs(t)
		}
		out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

func (h *Handler) topicConfigs(img *metadata.Image, req *kmsg.DescribeConfigsRequest, r configResource) ([]configAnswer, error) {
	if err := metadata.CheckTopicName(r.ResourceName); err != nil {
		return nil, protocol.Errorf(kerr.InvalidTopicException, "%v", err)
	}
	if _, ok := img.Topic(r.ResourceName); !ok {
		return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.ResourceName)
	}
	var out []configAnswer
	for _, s := range metadata.TopicSettings() {
		if wanted(r, s.Name) {
			out = append(out, config(req, &s, false, h.cfg.Admin.Static().TopicValue(img, r.ResourceName, &s)))
		}
	}
	return out, nil
}

// brokerConfigs describes this broker, or with an empty name only what was set
// for all brokers. Settings that have no effect here are not told: a value would claim one.
func (h *Handler) brokerConfigs(img *metadata.Image, req *kmsg.DescribeConfigsRequest, r configResource) ([]configAnswer, error) {
	if r.ResourceName != "" {
		if err := h.checkSelf(r.ResourceName, "expected %s or empty string, but received %s"); err != nil {
			return nil, err
		}
	}
	var out []configAnswer
	for _, s := range metadata.BrokerSettings() {
		v := h.cfg.Admin.Static().BrokerValue(img, r.ResourceName, &s)
		if r.ResourceName == "" {
			if v.Source != metadata.SourceDynamicDefault {
				continue
			}
			v.Synonyms = v.Synonyms[:1]
		}
		if wanted(r, s.Name) {
			out = append(out, config(req, &s, s.Update == metadata.ReadOnly, v))
		}
	}
	return out, nil
}

// checkSelf tells whether a resource's name is this broker's number.
func (h *Handler) checkSelf(name, want string) error {
	if _, err := strconv.ParseInt(name, 10, 32); err != nil {
		return protocol.Errorf(kerr.InvalidRequest, "Broker id must be an integer, but it is: %s", name)
	}
	if self := strconv.Itoa(int(h.cfg.Self)); name != self {
		return protocol.Errorf(kerr.InvalidRequest, "Unexpected broker id, "+want, self, name)
	}
	return nil
}

// loggerConfigs describes the log levels of this broker (KIP-412).
func (h *Handler) loggerConfigs(r configResource) ([]configAnswer, error) {
	if r.ResourceName == "" {
		return nil, protocol.Errorf(kerr.InvalidRequest, "Broker id must not be empty")
	}
	if err := h.checkSelf(r.ResourceName, "expected %s but received %s"); err != nil {
		return nil, err
	}
	var out []configAnswer
	for name, level := range h.cfg.Loggers.Levels() {
		if !wanted(r, name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.Source = name, &level, kmsg.ConfigSource(metadata.SourceDynamicLogger)
		out = append(out, c)
	}
	return out, nil
}

// wanted tells whether a request names the setting; null names all, and so does an empty list.
func wanted(r configResource, name string) bool {
	return len(r.ConfigNames) == 0 || slices.Contains(r.ConfigNames, name)
}

func config(req *kmsg.DescribeConfigsRequest, s *metadata.Setting, readOnly bool, v metadata.Resolved) configAnswer {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name, out.ConfigType, out.ReadOnly = s.Name, kmsg.ConfigType(s.Type), readOnly
	out.Source, out.IsDefault = kmsg.ConfigSource(v.Source), v.Source == metadata.SourceDefault
	if !v.Null {
		out.Value = &v.Value
	}
	if req.IncludeDocumentation {
		out.Documentation = &s.Doc
	}
	if !req.IncludeSynonyms {
		return out
	}
	for _, v := range v.Synonyms {
		syn := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		syn.Name, syn.Value, syn.Source = v.Name, &v.Value, kmsg.ConfigSource(v.Source)
		out.ConfigSynonyms = append(out.ConfigSynonyms, syn)
	}
	return out
}
