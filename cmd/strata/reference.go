package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

func settingsCommand() *cobra.Command {
	var scope string
	var markdown bool
	c := &cobra.Command{
		Use:   "settings [NAME...]",
		Short: "List the settings: what each does, its default and what is allowed",
		Example: `  strata settings
  strata settings --scope topic
  strata settings segment.bytes log.dirs
  strata settings --markdown`,
		RunE: func(cmd *cobra.Command, wanted []string) error {
			var scopes []settingScope
			for _, s := range settingScopes() {
				if scope == "" || scope == s.name {
					scopes = append(scopes, s)
				}
			}
			if scopes == nil {
				return usage("--scope %s: want broker or topic", scope)
			}
			if markdown {
				return settingsPage(cmd.OutOrStdout(), scopes)
			}
			return listSettings(cmd.OutOrStdout(), scopes, wanted)
		},
	}
	c.Flags().StringVar(&scope, "scope", "", "`SCOPE`: broker or topic (default: both)")
	c.Flags().BoolVar(&markdown, "markdown", false, "write the reference page")
	return c
}

// settingScope is one table of settings.
type settingScope struct {
	name, title string
	settings    []metadata.Setting
}

func settingScopes() []settingScope {
	scopes := []settingScope{
		{"broker", "Broker settings", metadata.BrokerSettings()},
		{"topic", "Topic settings", metadata.TopicSettings()},
	}
	for _, s := range scopes {
		slices.SortFunc(s.settings, func(a, b metadata.Setting) int { return strings.Compare(a.Name, b.Name) })
	}
	return scopes
}

func listSettings(w io.Writer, scopes []settingScope, wanted []string) error {
	var text strings.Builder
	found := map[string]bool{}
	for _, scope := range scopes {
		for _, s := range scope.settings {
			if len(wanted) > 0 && !slices.Contains(wanted, s.Name) {
				continue
			}
			found[s.Name] = true
			fmt.Fprintf(&text, "%s  (%s, %s)\n    %s\n", s.Name, scope.name, typeName(s.Type), s.Doc)
			fmt.Fprintf(&text, "    default: %s%s\n", defaultText(&s), prefixed("; allowed: ", s.Allows()))
		}
	}
	for _, name := range wanted {
		if !found[name] {
			return fmt.Errorf("no setting %s", name)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func typeName(t metadata.SettingType) string {
	switch t {
	case metadata.BooleanSetting:
		return "boolean"
	case metadata.IntSetting:
		return "int"
	case metadata.LongSetting:
		return "long"
	case metadata.DoubleSetting:
		return "double"
	case metadata.ListSetting:
		return "list"
	default:
		return "string"
	}
}

func defaultText(s *metadata.Setting) string {
	switch {
	case s.Null:
		return "null"
	case s.Default == "":
		return "empty"
	}
	return s.Default
}

const generated = "<!-- Written by `make docs` from the tables in the code. Do not edit. -->\n\n"

func settingsPage(w io.Writer, scopes []settingScope) error {
	var text strings.Builder
	text.WriteString(generated + `# Settings

Names without ` + "`strata.`" + ` are Kafka's, with Kafka's meaning and default. A broker takes its settings from
the file of ` + "`strata server --config`" + `, from ` + "`STRATA_`" + ` variables (` + "`STRATA_NODE_ID`" + ` is ` + "`node.id`" + `,
` + "`STRATA_BUCKET_URL`" + ` is ` + "`strata.bucket.url`" + `) and from ` + "`--set`" + `, the later over the earlier. Topic settings are
given when a topic is created and may be changed at any time; where a topic has none, the broker setting
named under *falls back to* holds. *Dynamic* broker settings can be changed while the broker runs.
Kafka's other settings are accepted with a warning and have no effect.
`)
	for _, scope := range scopes {
		fmt.Fprintf(&text, "\n## %s\n", scope.title)
		for _, s := range scope.settings {
			fmt.Fprintf(&text, "\n### `%s`\n\n%s\n\n", s.Name, s.Doc)
			facts := []string{typeName(s.Type), "default `" + defaultText(&s) + "`"}
			if allows := s.Allows(); allows != "" {
				facts = append(facts, "allowed: "+allows)
			}
			if s.Update == metadata.Dynamic {
				facts = append(facts, "dynamic")
			}
			if len(s.Synonyms) > 0 {
				facts = append(facts, "falls back to `"+strings.Join(s.Synonyms, "`, `")+"`")
			}
			if s.Ignored {
				facts = append(facts, "**no effect**")
			}
			fmt.Fprintf(&text, "%s\n", strings.Join(facts, " · "))
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func apisCommand() *cobra.Command {
	var markdown bool
	c := &cobra.Command{
		Use:   "apis",
		Short: "List the Kafka APIs and versions that are served",
		Example: `  strata apis
  strata apis --markdown`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if markdown {
				return apisPage(cmd.OutOrStdout())
			}
			return table(cmd.OutOrStdout(), "KEY\tAPI\tVERSIONS", func(row func(format string, args ...any)) {
				for api := range protocol.APIs() {
					row("%d\t%s\t%d-%d", api.Key, api.Name, api.Min, api.Max)
				}
			})
		},
	}
	c.Flags().BoolVar(&markdown, "markdown", false, "write the reference page")
	return c
}

func apisPage(w io.Writer) error {
	var text strings.Builder
	text.WriteString(generated + `# Served APIs

The requests of Kafka's protocol that a broker answers. What is not here is not advertised either.

| key | API | versions | flexible from |
|---:|---|---|---|
`)
	for api := range protocol.APIs() {
		versions := fmt.Sprintf("%d to %d", api.Min, api.Max)
		if api.Advertised != api.Min {
			versions += fmt.Sprintf(" (advertised from %d: KAFKA-18659)", api.Advertised)
		}
		fmt.Fprintf(&text, "| %d | %s | %s | %d |\n", api.Key, api.Name, versions, api.Flexible)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
