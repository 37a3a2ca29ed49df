package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const entityHelp = `An entity is topic NAME, broker ID, broker default (every broker that says nothing else) or
logger ID, a broker's log levels.`

func configCommand() *cobra.Command {
	var cl client
	c := &cobra.Command{
		Use:   "config",
		Short: "Show and change settings of topics, brokers and loggers",
		Long: `Show and change the settings that a running broker has: of topics, of brokers (those that are
dynamic, strata settings tells which), and its log levels. ` + entityHelp,
		Example: `  strata config describe topic clicks
  strata config set topic clicks retention.ms=604800000
  strata config delete topic clicks retention.ms
  strata config describe broker 1 --all`,
	}
	cl.flags(c)
	parent(c)
	c.AddCommand(configDescribeCommand(&cl), configSetCommand(&cl), configDeleteCommand(&cl))
	return c
}

// entity is what has settings.
type entity struct {
	kind kmsg.ConfigResourceType
	name string // "" for what holds for all brokers
}

func parseEntity(kind, name string) (entity, error) {
	switch kind {
	case "topic":
		return entity{kmsg.ConfigResourceTypeTopic, name}, nil
	case "broker", "logger":
		e := entity{kmsg.ConfigResourceTypeBroker, name}
		if kind == "logger" {
			e.kind = kmsg.ConfigResourceTypeBrokerLogger
		}
		if kind == "broker" && name == "default" {
			e.name = ""
			return e, nil
		}
		if id, err := strconv.ParseInt(name, 10, 32); err != nil || id < 0 {
			return e, usage("%s %s: want the number of a broker", kind, name)
		}
		return e, nil
	}
	return entity{}, usage("%s: want topic, broker or logger", kind)
}

// settingJSON is one setting as a broker tells it.
type settingJSON struct {
	Name      string        `json:"name"`
	Value     *string       `json:"value"` // null where there is none, or it is secret
	Source    string        `json:"source"`
	ReadOnly  bool          `json:"read_only"`
	Sensitive bool          `json:"sensitive,omitempty"`
	Doc       string        `json:"doc,omitempty"`
	Synonyms  []synonymJSON `json:"synonyms"` // where the value comes from first, then what would hold without
}

type synonymJSON struct {
	Name   string  `json:"name"`
	Value  *string `json:"value"`
	Source string  `json:"source"`
}

func configDescribeCommand(cl *client) *cobra.Command {
	var all, synonyms bool
	c := &cobra.Command{
		Use:   "describe topic|broker|logger NAME [SETTING...]",
		Short: "Show settings and where they come from",
		Long: `Show the settings that were changed for an entity, with --all or by name also those that were
not. ` + entityHelp,
		Example: `  strata config describe topic clicks
  strata config describe topic clicks retention.ms segment.bytes
  strata config describe broker 1 --all --synonyms
  strata config describe broker default
  strata config describe logger 1`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := parseEntity(args[0], args[1])
			if err != nil {
				return err
			}
			wanted := args[2:]
			kc, err := cl.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer kc.Close()
			settings, err := describeConfigs(cmd.Context(), kc, e, wanted)
			if err != nil {
				return fmt.Errorf("%s %s: %w", args[0], args[1], err)
			}
			if !all && len(wanted) == 0 && e.kind != kmsg.ConfigResourceTypeBrokerLogger {
				settings = slices.DeleteFunc(settings, func(s settingJSON) bool { return !changed(s.Source) })
			}
			return answer(cmd, map[string]any{"entity": args[0], "name": args[1], "settings": settings}, func(w io.Writer) error {
				return settingsTable(w, settings, synonyms)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "show settings that have their default too")
	c.Flags().BoolVar(&synonyms, "synonyms", false, "show what would hold without the value too")
	return c
}

// changed tells whether a value was set at run time.
func changed(source string) bool { return strings.HasPrefix(source, "DYNAMIC_") }

func settingsTable(w io.Writer, settings []settingJSON, synonyms bool) error {
	value := func(s settingJSON, v *string) string {
		switch {
		case s.Sensitive:
			return "(secret)"
		case v == nil:
			return "null"
		case *v == "":
			return `""`
		}
		return *v
	}
	return table(w, "SETTING\tVALUE\tSOURCE", func(row func(format string, args ...any)) {
		for _, s := range settings {
			row("%s\t%s\t%s", s.Name, value(s, s.Value), s.Source)
			if synonyms {
				for _, y := range s.Synonyms {
					row("  %s\t%s\t%s", y.Name, value(s, y.Value), y.Source)
				}
			}
		}
	})
}

// describeConfigs asks for an entity's settings, by name, all where names is empty.
func describeConfigs(ctx context.Context, cl *kgo.Client, e entity, names []string) ([]settingJSON, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = e.kind, e.name
	if len(names) > 0 {
		resource.ConfigNames = names
	}
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, explain(err, "")
	}
	out := []settingJSON{}
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return nil, explain(err, deref(r.ErrorMessage))
		}
		for _, c := range r.Configs {
			s := settingJSON{Name: c.Name, Value: c.Value, Source: c.Source.String(), ReadOnly: c.ReadOnly, Sensitive: c.IsSensitive, Doc: deref(c.Documentation), Synonyms: []synonymJSON{}}
			for _, y := range c.ConfigSynonyms {
				s.Synonyms = append(s.Synonyms, synonymJSON{y.Name, y.Value, y.Source.String()})
			}
			out = append(out, s)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(out, func(s settingJSON) bool { return s.Name == name }) {
			return nil, fmt.Errorf("the broker knows no setting %s there (strata settings lists them)", name)
		}
	}
	slices.SortFunc(out, func(a, b settingJSON) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func configSetCommand(cl *client) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "set topic|broker|logger NAME SETTING=VALUE...",
		Short: "Set settings, all of them or none",
		Long: `Set settings of a running broker, all that are given or none. SETTING+=VALUE adds to a list,
SETTING-=VALUE takes from it. ` + entityHelp,
		Example: `  strata config set topic clicks retention.ms=604800000 segment.bytes=16777216
  strata config set topic clicks cleanup.policy+=compact
  strata config set broker default log.retention.ms=-1
  strata config set logger 1 tiering=DEBUG
  strata config set topic clicks retention.ms=-1 --dry-run`,
		Args: cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var changes []kmsg.IncrementalAlterConfigsRequestResourceConfig
			for _, pair := range args[2:] {
				name, value, ok := strings.Cut(pair, "=")
				if !ok || strings.Trim(name, "+-") == "" {
					return usage("%s: want SETTING=VALUE", pair)
				}
				change := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				change.Name, change.Value, change.Op = name, &value, kmsg.IncrementalAlterConfigOpSet
				if base, ok := strings.CutSuffix(name, "+"); ok {
					change.Name, change.Op = base, kmsg.IncrementalAlterConfigOpAppend
				} else if base, ok := strings.CutSuffix(name, "-"); ok {
					change.Name, change.Op = base, kmsg.IncrementalAlterConfigOpSubtract
				}
				changes = append(changes, change)
			}
			return alterConfigs(cmd, cl, args[0], args[1], changes, dry)
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only ask whether it is allowed")
	return c
}

func configDeleteCommand(cl *client) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "delete topic|broker|logger NAME SETTING...",
		Short: "Take settings back: the default, or what the broker says, holds again",
		Example: `  strata config delete topic clicks retention.ms
  strata config delete broker default log.retention.ms
  strata config delete logger 1 tiering`,
		Args: cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var changes []kmsg.IncrementalAlterConfigsRequestResourceConfig
			for _, name := range args[2:] {
				change := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				change.Name, change.Op = name, kmsg.IncrementalAlterConfigOpDelete
				changes = append(changes, change)
			}
			return alterConfigs(cmd, cl, args[0], args[1], changes, dry)
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only ask whether it is allowed")
	return c
}

func alterConfigs(cmd *cobra.Command, cl *client, kind, name string, changes []kmsg.IncrementalAlterConfigsRequestResourceConfig, dry bool) error {
	e, err := parseEntity(kind, name)
	if err != nil {
		return err
	}
	kc, err := cl.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer kc.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = dry
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName, resource.Configs = e.kind, e.name, changes
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(cmd.Context(), kc)
	if err != nil {
		return explain(err, "")
	}
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return fmt.Errorf("%s %s: %w", kind, name, explain(err, deref(r.ErrorMessage)))
		}
	}
	result := "changed"
	if dry {
		result = "would be changed"
	}
	return answer(cmd, map[string]any{"entity": kind, "name": name, "result": result}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s %s\n", result, kind, name)
		return err
	})
}
