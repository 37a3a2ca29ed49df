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
			chosen, err := choose(scopes, wanted)
			if err != nil {
				return err
			}
			return answer(cmd, map[string]any{"settings": chosen}, func(w io.Writer) error { return listSettings(w, chosen) })
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

// settingFacts is what a table says of a setting.
type settingFacts struct {
	Name     string   `json:"name"`
	Scope    string   `json:"scope"`
	Type     string   `json:"type"`
	Default  *string  `json:"default"`
	Allowed  string   `json:"allowed,omitempty"`
	Dynamic  bool     `json:"dynamic"`
	NoEffect bool     `json:"no_effect"`
	Synonyms []string `json:"falls_back_to,omitempty"`
	Doc      string   `json:"doc"`

	defaultText string
}

// choose picks settings by name, all where nothing is wanted.
func choose(scopes []settingScope, wanted []string) ([]settingFacts, error) {
	chosen := []settingFacts{}
	found := map[string]bool{}
	for _, scope := range scopes {
		for _, s := range scope.settings {
			if len(wanted) > 0 && !slices.Contains(wanted, s.Name) {
				continue
			}
			found[s.Name] = true
			facts := settingFacts{
				Name: s.Name, Scope: scope.name, Type: typeName(s.Type), Default: &s.Default, Allowed: s.Allows(), Dynamic: s.Update == metadata.Dynamic || scope.name == "topic",
				NoEffect: s.Ignored, Synonyms: s.Synonyms, Doc: s.Doc, defaultText: defaultText(&s),
			}
			if s.Null {
				facts.Default = nil
			}
			chosen = append(chosen, facts)
		}
	}
	for _, name := range wanted {
		if !found[name] {
			return nil, fmt.Errorf("no setting %s (strata settings lists all)", name)
		}
	}
	return chosen, nil
}

func listSettings(w io.Writer, settings []settingFacts) error {
	var text strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&text, "%s  (%s, %s)\n    %s\n", s.Name, s.Scope, s.Type, s.Doc)
		fmt.Fprintf(&text, "    default: %s%s\n", s.defaultText, prefixed("; allowed: ", s.Allowed))
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
	case metadata.ShortSetting:
		return "short"
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
Kafka's other settings are accepted with a warning that says why they have no effect; they are listed at the end.
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
				facts = append(facts, "dynamic, cluster-wide")
			}
			if len(s.Synonyms) > 0 {
				facts = append(facts, "falls back to `"+strings.Join(s.Synonyms, "`, `")+"`")
			}
			fmt.Fprintf(&text, "%s\n", strings.Join(facts, " · "))
		}
	}
	writeIgnored(&text)
	_, err := io.WriteString(w, text.String())
	return err
}

// writeIgnored lists Kafka's settings that have no effect, by the reason.
func writeIgnored(w *strings.Builder) {
	w.WriteString("\n## Settings of Kafka's without effect\n")
	why := ""
	for _, s := range metadata.IgnoredBrokerSettings() {
		switch {
		case s.Doc != why:
			why = s.Doc
			fmt.Fprintf(w, "\nBecause %s:\n`%s`", why, s.Name)
		default:
			fmt.Fprintf(w, ", `%s`", s.Name)
		}
	}
	w.WriteString("\n")
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
			type apiJSON struct {
				Key  int16  `json:"key"`
				Name string `json:"api"`
				Min  int16  `json:"min_version"`
				Max  int16  `json:"max_version"`
			}
			apis := []apiJSON{}
			for api := range protocol.APIs() {
				apis = append(apis, apiJSON{api.Key, api.Name, api.Min, api.Max})
			}
			return answer(cmd, map[string]any{"apis": apis}, func(w io.Writer) error {
				return table(w, "KEY\tAPI\tVERSIONS", func(row func(format string, args ...any)) {
					for _, api := range apis {
						row("%d\t%s\t%d-%d", api.Key, api.Name, api.Min, api.Max)
					}
				})
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
		flexible := "none"
		if api.Flexible <= api.Max {
			flexible = fmt.Sprint(api.Flexible)
		}
		fmt.Fprintf(&text, "| %d | %s | %s | %s |\n", api.Key, api.Name, versions, flexible)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
