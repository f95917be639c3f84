// Go's net/http: http.DefaultClient. With -h2c, HTTP/2 without TLS, by prior knowledge.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"sync"
)

type step struct {
	Name, Method, URL string
	Headers           map[string]string
	Body              *string
	Pad               int
	Chunked, Expect   bool
}

type answer struct {
	Name   string `json:"name"`
	Status int    `json:"status,omitempty"`
	Type   string `json:"type,omitempty"`
	Body   string `json:"body"`
	Error  string `json:"error,omitempty"`
}

// unsized hides the body's length, so that it is sent in chunks.
type unsized struct{ io.Reader }

func request(s step) (*http.Request, error) {
	var body io.Reader
	if s.Body != nil {
		body = bytes.NewReader(append([]byte(*s.Body), bytes.Repeat([]byte(" "), s.Pad)...))
	}
	if s.Chunked {
		body = unsized{body}
	}
	r, err := http.NewRequest(s.Method, s.URL, body)
	if err != nil {
		return nil, err
	}
	for name, value := range s.Headers {
		r.Header.Set(name, value)
	}
	if s.Expect {
		r.Header.Set("Expect", "100-continue")
	}
	return r, nil
}

func send(client *http.Client, s step) answer {
	r, err := request(s)
	if err != nil {
		return answer{Name: s.Name, Error: err.Error()}
	}
	got, err := client.Do(r)
	if err != nil {
		return answer{Name: s.Name, Error: err.Error()}
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		return answer{Name: s.Name, Error: err.Error()}
	}
	return answer{s.Name, got.StatusCode, got.Header.Get("Content-Type"), string(body), ""}
}

func client() *http.Client {
	if len(os.Args) < 2 || os.Args[1] != "-h2c" {
		return http.DefaultClient
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
}

func main() {
	client := client()
	out := json.NewEncoder(os.Stdout)
	var printing sync.Mutex
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var wave []step
		if err := json.Unmarshal(line, &wave); err != nil {
			panic(err)
		}
		var all sync.WaitGroup
		for _, s := range wave {
			all.Go(func() {
				got := send(client, s)
				printing.Lock()
				defer printing.Unlock()
				out.Encode(got)
			})
		}
		all.Wait()
	}
}
