package group

// PartitionFor is the partition of __consumer_offsets that holds a group: Java's
// hash of its id (over UTF-16), made positive, modulo the count, which must be positive.
func PartitionFor(groupID string, count int32) int32 {
	var h int32
	for _, r := range groupID {
		if r > 0xffff {
			r -= 0x10000
			h = 31*h + (0xd800 + r>>10)
			r = 0xdc00 + r&0x3ff
		}
		h = 31*h + r
	}
	if h == -1<<31 {
		return 0
	}
	return max(h, -h) % count
}
