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
	LongSetting    SettingType = 5
	DoubleSetting  SettingType = 6
	ListSetting    SettingType = 7
)

// Update says how a setting may change while the broker runs.
type Update int8

// Update modes; topic settings are all dynamic.
const (
	ReadOnly Update = iota
	Dynamic         // by IncrementalAlterConfigs, per broker or for all
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
	Ignored  bool     // known to Kafka, accepted, has no effect here
	Synonyms []string // topic settings: broker settings that give the default, first one wins
	Doc      string
}

// SettingError is a value that a setting does not take.
type SettingError struct {
	Name, Value, Want string
}

// Error names the setting, the value and what is allowed.
func (e *SettingError) Error() string {
	return fmt.Sprintf("Invalid value %s for configuration %s: %s", e.Value, e.Name, e.Want)
}

// Check tells whether value is allowed; the error is a *SettingError.
func (s *Setting) Check(value string) error {
	want := s.violation(strings.TrimSpace(value))
	if want == "" {
		return nil
	}
	return &SettingError{Name: s.Name, Value: value, Want: want}
}

func (s *Setting) violation(value string) string {
	switch s.Type {
	case BooleanSetting:
		if l := strings.ToLower(value); l != "true" && l != "false" {
			return "Expected value to be either true or false"
		}
	case IntSetting, LongSetting, DoubleSetting:
		return s.numberViolation(value)
	case StringSetting:
		if len(s.Allowed) > 0 && !slices.Contains(s.Allowed, value) {
			return "String must be one of: " + strings.Join(s.Allowed, ", ")
		}
	case ListSetting:
		for _, member := range SplitList(value) {
			if len(s.Allowed) > 0 && !slices.Contains(s.Allowed, member) {
				return "List members must be among: " + strings.Join(s.Allowed, ", ")
			}
		}
	}
	return ""
}

func (s *Setting) numberViolation(value string) string {
	if s.Type == DoubleSetting {
		if f, err := strconv.ParseFloat(value, 64); err != nil || f < float64(s.Min) || (s.Max != 0 && f > float64(s.Max)) {
			return fmt.Sprintf("Value must be a number from %d to %d", s.Min, s.Max)
		}
		return ""
	}
	n, err := strconv.ParseInt(value, 10, 64)
	lo, hi := s.bounds()
	if err != nil || n < lo || n > hi {
		return fmt.Sprintf("Value must be a whole number from %d to %d", lo, hi)
	}
	return ""
}

// bounds are the range of a whole number; a row that gives none takes what its type holds.
func (s *Setting) bounds() (lo, hi int64) {
	lo, hi = s.Min, s.Max
	if hi == 0 {
		hi = math.MaxInt64
		if s.Type == IntSetting {
			hi = math.MaxInt32
		}
	}
	return lo, hi
}

// Allows describes the range or the values, for the reference page; "" where anything goes.
func (s *Setting) Allows() string {
	switch {
	case len(s.Allowed) > 0:
		return strings.Join(s.Allowed, ", ")
	case s.Type == IntSetting || s.Type == LongSetting:
		lo, hi := s.bounds()
		if hi == math.MaxInt64 || hi == math.MaxInt32 {
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
