package api

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// DescribeConfigs, versions 1 to 4, of topics and brokers: every setting of
// the tables with its value, where that came from and, if asked, what else
// would apply (synonyms) and what it means.
func (h *Handler) describeConfigs(req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp, img := kmsg.NewPtrDescribeConfigsResponse(), h.cfg.Admin.Image()
	for _, r := range req.Resources {
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		var err error
		switch metadata.ResourceType(r.ResourceType) {
		case metadata.TopicResource:
			out.Configs, err = h.topicConfigs(img, req, r)
		case metadata.BrokerResource:
			out.Configs, err = h.brokerConfigs(img, req, r)
		default:
			err = protocol.Errorf(kerr.InvalidRequest, "resource type %d has no configs here: topics (2) and brokers (4) have", r.ResourceType)
		}
		out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

func (h *Handler) topicConfigs(img *metadata.Image, req *kmsg.DescribeConfigsRequest, r kmsg.DescribeConfigsRequestResource) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	if err := metadata.CheckTopicName(r.ResourceName); err != nil {
		return nil, protocol.Errorf(kerr.InvalidTopicException, "%v", err)
	}
	if _, ok := img.Topic(r.ResourceName); !ok {
		return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "no topic %q", r.ResourceName)
	}
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, s := range metadata.TopicSettings() {
		if wanted(r, s.Name) {
			out = append(out, config(req, &s, h.cfg.Admin.Static().TopicValues(img, r.ResourceName, &s)))
		}
	}
	return out, nil
}

// brokerConfigs describes this broker, or with an empty name only what was set
// for all brokers.
func (h *Handler) brokerConfigs(img *metadata.Image, req *kmsg.DescribeConfigsRequest, r kmsg.DescribeConfigsRequestResource) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	if err := h.cfg.Admin.CheckBroker(img, r.ResourceName); err != nil {
		return nil, err
	}
	if self := strconv.Itoa(int(h.cfg.Self)); r.ResourceName != "" && r.ResourceName != self {
		return nil, protocol.Errorf(kerr.InvalidRequest, "Unexpected broker id, expected %s or empty string, but received %s", self, r.ResourceName)
	}
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, s := range metadata.BrokerSettings() {
		values := h.cfg.Admin.Static().BrokerValues(img, r.ResourceName, &s)
		if r.ResourceName == "" {
			values = slices.DeleteFunc(values, func(v metadata.Value) bool { return v.Source != metadata.SourceDynamicDefault })
			if len(values) == 0 {
				continue
			}
		}
		if wanted(r, s.Name) {
			out = append(out, config(req, &s, values))
		}
	}
	return out, nil
}

// wanted tells whether a request names the setting; null names all.
func wanted(r kmsg.DescribeConfigsRequestResource, name string) bool {
	return r.ConfigNames == nil || slices.Contains(r.ConfigNames, name)
}

func config(req *kmsg.DescribeConfigsRequest, s *metadata.Setting, values []metadata.Value) kmsg.DescribeConfigsResponseResourceConfig {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name, out.ConfigType = s.Name, kmsg.ConfigType(s.Type)
	out.Source, out.IsDefault = kmsg.ConfigSource(metadata.SourceDefault), true
	_, topic := metadata.TopicSetting(s.Name)
	_, broker := metadata.BrokerSetting(s.Name)
	out.ReadOnly = broker && !topic && s.Update == metadata.ReadOnly
	if len(values) > 0 {
		out.Value = &values[0].Value
		out.Source = kmsg.ConfigSource(values[0].Source)
		out.IsDefault = values[0].Source == metadata.SourceDefault
	}
	if req.IncludeDocumentation {
		out.Documentation = &s.Doc
	}
	if !req.IncludeSynonyms {
		return out
	}
	for _, v := range values {
		syn := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		syn.Name, syn.Value, syn.Source = v.Name, &v.Value, kmsg.ConfigSource(v.Source)
		out.ConfigSynonyms = append(out.ConfigSynonyms, syn)
	}
	return out
}
