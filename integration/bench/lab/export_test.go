package lab

// ParseStat and Kilobytes read /proc, FolderOf the names in a broker's folder.
var (
	ParseStat = parseStat
	Kilobytes = kilobytes
	FolderOf  = folderOf
)
