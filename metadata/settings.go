package metadata

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// SettingType is Kafka's type of a setting's value, by its number in DescribeConfigs.
type SettingType int8

// The types in use.
const (
	BooleanSetting SettingType = 1
	StringSetting  SettingType = 2
	IntSetting     SettingType = 3
	ShortSetting   SettingType = 4
	LongSetting    SettingType = 5
	DoubleSetting  SettingType = 6
	ListSetting    SettingType = 7
)

// String is Kafka's name of the type.
func (t SettingType) String() string {
	names := [...]string{"UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST"}
	if t < 0 || int(t) >= len(names) {
		return names[0]
	}
	return names[t]
}

// Update says how a setting may change while the broker runs.
type Update int8

// Update modes of broker settings; topic settings are all dynamic.
const (
	ReadOnly Update = iota // takes a restart
	Dynamic                // Kafka's cluster-wide: by AlterConfigs, for all brokers or for one
)

// Setting declares one setting. All uses (files, flags, DescribeConfigs, the
// reference page) read this one row.
type Setting struct {
	Name     string
	Type     SettingType
	Default  string
	Null     bool // the default is null; Default is not read
	Min, Max int64
	Allowed  []string // values of a string, members of a list
	Update   Update
	Ignored  bool     // a broker setting that is known to Kafka and accepted, and has no effect here; Doc says why
	Synonyms []string // topic settings: broker settings that give the default, first one wins
	// Valid, if set, stands for Min and Max, for a rule that they cannot say: it tells
	// what is wanted instead of a value, "" where the value will do. Range is the rule in words.
	Valid func(value string) string
	Range string
	Doc   string
}

// SettingError is a value that a setting does not take.
type SettingError struct {
	Name, Value, Want string
}

// Error names the setting, the value and what is allowed, in Kafka's words.
func (e *SettingError) Error() string {
	return fmt.Sprintf("Invalid value %s for configuration %s: %s", e.Value, e.Name, e.Want)
}

// Check tells whether value is allowed; the error is a *SettingError.
func (s *Setting) Check(value string) error {
	offending, want := s.violation(value)
	if want == "" {
		return nil
	}
	return &SettingError{Name: s.Name, Value: offending, Want: want}
}

// violation gives the part of the value that is not allowed, and what is.
func (s *Setting) violation(raw string) (offending, want string) {
	value := strings.TrimSpace(raw)
	switch s.Type {
	case BooleanSetting:
		if l := strings.ToLower(value); l != "true" && l != "false" {
			return raw, "Expected value to be either true or false"
		}
	case IntSetting, ShortSetting, LongSetting, DoubleSetting:
		if want = s.numberViolation(value); want != "" {
			return raw, want
		}
	case StringSetting:
		if len(s.Allowed) > 0 && !slices.Contains(s.Allowed, value) {
			return raw, "String must be one of: " + strings.Join(s.Allowed, ", ")
		}
	case ListSetting:
		if offending, want = s.listViolation(value); want != "" {
			return offending, want
		}
	}
	if s.Valid != nil {
		return s.show(value), s.Valid(value)
	}
	return "", ""
}

// show is a value as Kafka prints it in an error.
func (s *Setting) show(value string) string {
	if s.Type == ListSetting {
		return "[" + strings.Join(SplitList(value), ", ") + "]"
	}
	return value
}

func (s *Setting) listViolation(value string) (offending, want string) {
	if len(s.Allowed) == 0 || value == "" {
		return "", ""
	}
	for member := range strings.SplitSeq(value, ",") {
		switch member = strings.TrimSpace(member); {
		case member == "":
			return value, "Members of the list must not be empty"
		case !slices.Contains(s.Allowed, member):
			return member, "String must be one of: " + strings.Join(s.Allowed, ", ")
		}
	}
	return "", ""
}

func (s *Setting) numberViolation(value string) string {
	if s.Type == DoubleSetting {
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(f) {
			return "Not a number of type " + s.Type.String()
		}
		if f < float64(s.Min) {
			return fmt.Sprintf("Value must be at least %d", s.Min)
		}
		if s.Max != 0 && f > float64(s.Max) {
			return fmt.Sprintf("Value must be no more than %d", s.Max)
		}
		return ""
	}
	n, err := strconv.ParseInt(value, 10, s.bits())
	lo, hi := s.bounds()
	switch {
	case err != nil:
		return "Not a number of type " + s.Type.String()
	case s.Valid != nil:
		return ""
	case n < lo:
		return fmt.Sprintf("Value must be at least %d", lo)
	case n > hi:
		return fmt.Sprintf("Value must be no more than %d", hi)
	}
	return ""
}

func (s *Setting) bits() int {
	switch s.Type {
	case ShortSetting:
		return 16
	case IntSetting:
		return 32
	default:
		return 64
	}
}

// bounds are the range of a whole number; a row that gives none takes what its type holds.
func (s *Setting) bounds() (lo, hi int64) {
	lo, hi = s.Min, s.Max
	if hi == 0 {
		hi = math.MaxInt64 >> (64 - s.bits())
	}
	return lo, hi
}

// Canonical is how Kafka shows an allowed value: without blanks, words of a
// boolean in lower case, members of a closed list once each.
func (s *Setting) Canonical(value string) string {
	value = strings.TrimSpace(value)
	switch s.Type {
	case BooleanSetting:
		return strings.ToLower(value)
	case IntSetting, ShortSetting, LongSetting:
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return strconv.FormatInt(n, 10)
		}
	case DoubleSetting:
		if f, err := strconv.ParseFloat(value, 64); err == nil {
			return javaDouble(f)
		}
	case ListSetting:
		var members []string
		for _, m := range SplitList(value) {
			if len(s.Allowed) == 0 || !slices.Contains(members, m) {
				members = append(members, m)
			}
		}
		return strings.Join(members, ",")
	case StringSetting:
	}
	return value
}

// javaDouble is a number as Java prints it, and so Kafka.
func javaDouble(f float64) string {
	mantissa, exponent := strconv.FormatFloat(f, 'f', -1, 64), ""
	if size := math.Abs(f); size != 0 && (size < 1e-3 || size >= 1e7) {
		mantissa, exponent, _ = strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
		n, _ := strconv.Atoi(exponent)
		exponent = "E" + strconv.Itoa(n)
	}
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	return mantissa + exponent
}

// Allows describes the range or the values, for the reference page; "" where anything goes.
func (s *Setting) Allows() string {
	switch {
	case s.Range != "":
		return s.Range
	case len(s.Allowed) > 0:
		return strings.Join(s.Allowed, ", ")
	case s.Type == IntSetting || s.Type == ShortSetting || s.Type == LongSetting:
		lo, hi := s.bounds()
		if s.Max == 0 {
			return fmt.Sprintf("%d or more", lo)
		}
		return fmt.Sprintf("%d to %d", lo, hi)
	case s.Type == DoubleSetting && s.Max != 0:
		return fmt.Sprintf("%d to %d", s.Min, s.Max)
	}
	return ""
}

// SplitList splits a list value at its commas.
func SplitList(value string) []string {
	var out []string
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
