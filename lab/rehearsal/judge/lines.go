package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
)

// digest is the first half of a SHA-256, as the history spells it in hexadecimal digits.
type digest [16]byte

func (d *digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return fmt.Errorf("a digest has %d digits, not %d", 2*len(d), len(text))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// line is any line of a history. Fields that a line does not have keep their zero, except those
// that newLine sets.
type line struct {
	Type string `json:"type"`

	Version int      `json:"version"`
	Old     string   `json:"old"`
	New     string   `json:"new"`
	Logs    []string `json:"logs"`
	Lines   int      `json:"lines"`

	Kind         string  `json:"kind"`
	Key          string  `json:"key"`
	Conversation string  `json:"conversation"`
	Digest       *digest `json:"digest"`
	Sent         float64 `json:"sent"`
	Ended        float64 `json:"ended"`
	Outcome      string  `json:"outcome"`
	Status       int     `json:"status"`
	MessageID    string  `json:"messageId"`
	AcceptedAt   string  `json:"acceptedAt"`
	Hit          bool    `json:"hit"`
	RetryAfter   string  `json:"retryAfter"`
	Via          string  `json:"via"`
	Phase        int     `json:"phase"`

	Reason     string   `json:"reason"`
	MessageIDs []string `json:"messageIds"`

	Log             string  `json:"log"`
	Partition       int     `json:"partition"`
	Offset          string  `json:"offset"`
	Bytes           *digest `json:"bytes"`
	MirrorOf        string  `json:"mirrorOf"`
	MirrorPartition int     `json:"mirrorPartition"`
}

func newLine() line {
	return line{Ended: math.Inf(1), Phase: -1, MirrorPartition: -1}
}

const (
	chunkBytes  = 1 << 20
	longestLine = 64 << 20
)

// chunk is a piece of the input; done gets its lines, or why they can't be read.
type chunk struct {
	text  []byte
	first int // the number of its first line
	done  chan parsed
}

type parsed struct {
	lines []line
	err   error
}

// readLines decodes the input on every processor and hands its lines over in their order.
func readLines(input io.Reader, take func(*line) error) error {
	work := make(chan *chunk)
	ordered := make(chan *chunk, 2*runtime.NumCPU())
	stop := make(chan struct{})
	defer close(stop)
	for i := 0; i < runtime.NumCPU(); i++ {
		go func() {
			for c := range work {
				lines, err := decode(c)
				c.done <- parsed{lines, err}
			}
		}()
	}
	var readError error
	go func() {
		defer close(ordered)
		defer close(work)
		readError = cut(input, func(c *chunk) bool {
			for _, queue := range []chan *chunk{ordered, work} {
				select {
				case queue <- c:
				case <-stop:
					return false
				}
			}
			return true
		})
	}()
	for c := range ordered {
		got := <-c.done
		if got.err != nil {
			return got.err
		}
		for i := range got.lines {
			if err := take(&got.lines[i]); err != nil {
				return fmt.Errorf("line %d: %w", c.first+i, err)
			}
		}
	}
	return readError
}

// cut gives pieces of whole lines to give, until that says no.
func cut(input io.Reader, give func(*chunk) bool) error {
	scanner := bufio.NewScanner(input)
	scanner.Buffer(make([]byte, chunkBytes), longestLine)
	number, first := 0, 1
	var text []byte
	for scanner.Scan() {
		number++
		text = append(append(text, scanner.Bytes()...), '\n')
		if len(text) >= chunkBytes {
			if !give(&chunk{text, first, make(chan parsed, 1)}) {
				return nil
			}
			text, first = make([]byte, 0, chunkBytes+chunkBytes/8), number+1
		}
	}
	if len(text) > 0 {
		give(&chunk{text, first, make(chan parsed, 1)})
	}
	return scanner.Err()
}

func decode(c *chunk) ([]line, error) {
	count := bytes.Count(c.text, []byte{'\n'})
	lines, digests := make([]line, 0, count), make([]digest, 0, 2*count)
	rest := string(c.text)
	for len(rest) > 0 {
		end := strings.IndexByte(rest, '\n')
		made := newLine()
		if !scan(rest[:end], &made, &digests) {
			made = newLine()
			if err := json.Unmarshal([]byte(rest[:end]), &made); err != nil {
				return nil, fmt.Errorf("line %d: %w", c.first+len(lines), err)
			}
		}
		lines, rest = append(lines, made), rest[end+1:]
	}
	return lines, nil
}
