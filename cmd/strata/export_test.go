package main

// What the tests call in their own process.
var (
	Run         = run
	RootCommand = rootCommand
)
