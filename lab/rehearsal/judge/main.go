// Judge reads histories (docs/history_format.md) and says which promises they break.
//
// It is written from the promises, and shares no code with the service or with the checker in
// Python: a mistake would have to be made twice to stay unseen.
//
//	judge [-json] HISTORY...
//
// The exit status is 1 if a history breaks a promise, and 2 if one can't be read.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

const (
	exitBroken     = 1
	exitUnreadable = 2

	bytesPerMessage = 1100 // in a file, with the rows and records of a message
)

func main() {
	asJSON := flag.Bool("json", false, "print one JSON object a history instead of a table")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: judge [-json] HISTORY...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(exitUnreadable)
	}
	// A history is read once and kept: collecting often would only cost time.
	debug.SetGCPercent(400)
	status := 0
	for _, path := range flag.Args() {
		begun := time.Now()
		opinion, err := judgeFile(path)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(exitUnreadable)
		}
		opinion.Seconds = time.Since(begun).Seconds()
		if !opinion.Sound {
			status = exitBroken
		}
		if *asJSON {
			if err := json.NewEncoder(os.Stdout).Encode(opinion); err != nil {
				os.Exit(exitUnreadable)
			}
		} else {
			opinion.print(path)
		}
	}
	os.Exit(status)
}

func judgeFile(path string) (*opinion, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	about, err := file.Stat()
	if err != nil {
		return nil, err
	}
	story := newStory(int(about.Size() / bytesPerMessage))
	if err := readLines(file, story.take); err != nil {
		return nil, err
	}
	if err := story.complete(); err != nil {
		return nil, err
	}
	return story.judge(), nil
}
