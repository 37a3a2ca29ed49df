package lab

// ParseStat and Kilobytes read /proc.
var (
	ParseStat = parseStat
	Kilobytes = kilobytes
)
