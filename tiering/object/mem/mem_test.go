package mem_test

import (
	"slices"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

func TestConformance(t *testing.T) {
	objecttest.Run(t, func(*testing.T) object.Store { return mem.New() })
}

func TestCloneAndChangeLeaveTheOtherAlone(t *testing.T) {
	s := mem.New()
	objecttest.Put(t, s, "a", []byte("abc"))
	c := s.Clone()
	s.Change("a", func(b []byte) []byte { b[0] = 'X'; return b })
	objecttest.Put(t, s, "b", nil)
	if got, _, err := c.GetAll(t.Context(), "a", 3); err != nil || string(got) != "abc" {
		t.Errorf("clone holds %q, %v", got, err)
	}
	if got, _, err := s.GetAll(t.Context(), "a", 3); err != nil || string(got) != "Xbc" {
		t.Errorf("store holds %q, %v", got, err)
	}
	if !slices.Equal(s.Keys(), []string{"a", "b"}) || !slices.Equal(c.Keys(), []string{"a"}) {
		t.Errorf("keys %q and %q", s.Keys(), c.Keys())
	}
}
