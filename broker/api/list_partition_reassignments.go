package api

import "github.com/twmb/franz-go/pkg/kmsg"

// ListPartitionReassignments, version 0: none is ever under way, for those that are accepted complete at once.
func (h *Handler) listPartitionReassignments() kmsg.Response {
	return kmsg.NewPtrListPartitionReassignmentsResponse()
}
