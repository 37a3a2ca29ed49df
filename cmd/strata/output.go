package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// jsonFlag is on every command: the answer as JSON, errors and progress as before.
func jsonFlag(root *cobra.Command) {
	root.PersistentFlags().Bool("json", false, "print JSON: one object, or one a line where there may be many (docs/cli.md)")
}

func wantsJSON(cmd *cobra.Command) bool {
	on, err := cmd.Flags().GetBool("json")
	return on && err == nil
}

// printJSON writes v on a line of its own.
func printJSON(w io.Writer, v any) error {
	line, err := jsonLine(nil, v)
	if err != nil {
		return err
	}
	_, err = w.Write(line)
	return err
}

// jsonLine appends v and a line feed. <, > and & stay as they are.
func jsonLine(line []byte, v any) ([]byte, error) {
	b := bytes.NewBuffer(line)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// answer prints v with --json, else what text writes.
func answer(cmd *cobra.Command, v any, text func(w io.Writer) error) error {
	if wantsJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), v)
	}
	return text(cmd.OutOrStdout())
}

// table writes rows under a head, columns aligned; columns end at tabs.
func table(w io.Writer, head string, rows func(row func(format string, args ...any))) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var text strings.Builder
	text.WriteString(head + "\n")
	rows(func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) })
	if _, err := io.WriteString(tw, text.String()); err != nil {
		return err
	}
	return tw.Flush()
}

// sizeText is bytes for people, as in 3.2 MiB.
func sizeText(bytes int64) string {
	value, unit := float64(bytes), 0
	for ; value >= 1024 && unit < 5; unit++ {
		value /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[unit-1])
}

// timeText is a record's or broker's time for people; none where it is below 0.
func timeText(ms int64) string {
	if ms < 0 {
		return "none"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// orDash stands in a table for what is empty.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// recordJSON is a record as every command prints it and produce --input json
// reads it. Bytes that are UTF-8 are a string, others base64 in the second field; neither is null.
type recordJSON struct {
	Topic       string       `json:"topic,omitempty"`
	Partition   *int32       `json:"partition,omitempty"`
	Offset      *int64       `json:"offset,omitempty"`
	Timestamp   *int64       `json:"timestamp,omitempty"` // ms since 1970
	Key         *string      `json:"key,omitempty"`
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       *string      `json:"value,omitempty"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []headerJSON `json:"headers,omitempty"`
}

type headerJSON struct {
	Key         string  `json:"key"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// textOrBytes splits b into the two fields that may hold it.
func textOrBytes(b []byte) (text *string, raw []byte) {
	switch {
	case b == nil:
		return nil, nil
	case utf8.Valid(b):
		s := string(b)
		return &s, nil
	}
	return nil, b
}

// bytesOf is the inverse of textOrBytes.
func bytesOf(text *string, raw []byte) []byte {
	if text != nil {
		return []byte(*text)
	}
	return raw
}
