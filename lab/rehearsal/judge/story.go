package main

import (
	"errors"
	"fmt"
	"math"
)

const version = 2

// The log's own word for a second body under a key that has one already (promise 5).
const conflict = "idempotency_conflict"

// request is everything that was tried under one key: a message with all the bodies that were sent
// for it, or a receipt.
type request struct {
	key          string
	conversation string
	bodies       []*body
	ids          []string // different ids, from answers, rows and records
	told, stand  []string // different times of acceptance, from answers and from records
	acknowledged bool
	possible     bool       // an attempt may have had an effect
	begun        [2]float64 // when the first two of such attempts were sent
	row          *row       // the first one
	present      bool       // a receipt: it is in the table
}

// body is one content of a message. Contents are unique in a history.
type body struct {
	request   *request
	sent      float64 // when its first attempt was
	acked     float64 // when it was first acknowledged
	id        string  // the first acknowledgement's
	possible  bool    // an attempt may have had an effect
	persisted bool    // there is a row
	in        [2]place
}

// place is where a body stands first in a log, and since when it must.
type place struct {
	at        int // 1 is the log's first record; 0 is nowhere
	partition int
	stands    address
	bytes     digest
	appended  float64 // when an answer first said that it stands in this log
	by        string
	asked     bool
}

type row struct {
	id, key, conversation, log, offset string
	partition                          int
	digest                             digest
	request                            *request // of its key; nil where nobody sent it
	body                               *body    // of its content
	from                               address
}

type conversation struct {
	rows   []*row
	bodies []*body
	page   []string
	paged  bool
}

type letter struct {
	id, reason string
	digest     *digest
}

type answer struct {
	request *request
	ended   float64
	via     string
}

type copied struct {
	from           address
	body           *body
	offset, origin string // as the line has them
	bytes          digest
}

// recorded is a record: a digest of all of it, and one of its content.
type recorded struct {
	bytes, digest digest
	content       bool
}

// story is a history as it is read: attempts first, logs last.
type story struct {
	opinion       *opinion
	stage         int
	lines         int
	ended         bool
	old, new      string
	names         []string // of the logs that were read
	messages      map[string]*request
	receipts      map[string]*request
	bodies        map[digest]*body
	conversations map[string]*conversation
	rows          []*row
	planted       map[string]string
	letters       map[string][]letter
	hits          []answer
	refused       []answer
	others        map[address]recorded // records that are not the first of their body in a log
	copies        []copied
	counts        [2]int
	offsets       offsets
	inLog         [2]map[string]bool // ids of messages with several bodies
}

// newStory makes room for so many messages: to grow a map costs as much as to fill it.
func newStory(messages int) *story {
	return &story{
		opinion:       newOpinion(),
		messages:      make(map[string]*request, messages),
		receipts:      map[string]*request{},
		bodies:        make(map[digest]*body, messages),
		conversations: map[string]*conversation{},
		planted:       map[string]string{},
		letters:       map[string][]letter{},
		others:        map[address]recorded{},
		offsets:       offsets{},
		inLog:         [2]map[string]bool{{}, {}},
	}
}

// The order in which the kinds of lines come.
var stages = map[string]int{
	"history": 1, "attempt": 2, "process": 3, "step": 4, "place": 5, "planted": 6, "row": 7,
	"receipt": 8, "deadLetter": 9, "page": 10, "record": 11, "end": 12,
}

func (s *story) take(l *line) error {
	s.lines++
	stage, known := stages[l.Type]
	switch {
	case !known:
		return fmt.Errorf("%q is no type of line", l.Type)
	case stage < s.stage:
		return fmt.Errorf("a line of the type %s comes too late", l.Type)
	case (l.Type == "history") != (s.lines == 1) || s.ended:
		return errors.New("a history begins with its history line and stops at its end line")
	}
	s.stage = stage
	switch l.Type {
	case "history":
		if l.Version != version {
			return fmt.Errorf("the format's version is %d; this program reads %d", l.Version, version)
		}
		if len(l.Logs) > 2 {
			return errors.New("there are more than two logs")
		}
		s.old, s.new, s.names = l.Old, l.New, l.Logs
	case "attempt":
		return s.attempt(l)
	case "planted":
		s.planted[l.MessageID] = l.Reason
	case "row":
		return s.row(l)
	case "receipt":
		s.receipt(l)
	case "deadLetter":
		s.letters[l.MessageID] = append(s.letters[l.MessageID], letter{l.MessageID, l.Reason, l.Digest})
	case "page":
		in := s.conversation(l.Conversation)
		in.page, in.paged = l.MessageIDs, true
	case "record":
		return s.record(l)
	case "end":
		s.ended = true
		if l.Lines != s.lines {
			return fmt.Errorf("%d lines were written, and %d are there", l.Lines, s.lines)
		}
	}
	return nil
}

// complete says why the history is not whole: a file that was cut off proves nothing.
func (s *story) complete() error {
	if !s.ended {
		return errors.New("it was cut off: the end line is missing")
	}
	return nil
}

func (s *story) conversation(id string) *conversation {
	found := s.conversations[id]
	if found == nil {
		found = &conversation{}
		s.conversations[id] = found
	}
	return found
}

// mustHold returns the logs that hold a message before an ingress of this phase acknowledges it.
func (s *story) mustHold(phase int) []string {
	switch phase {
	case 0, 1: // The shadow gets its copy afterwards.
		return []string{s.old}
	case 2, 3, 4:
		return []string{s.old, s.new}
	case 5:
		return []string{s.new}
	}
	return nil
}

func (s *story) log(name string) int {
	for i, known := range s.names {
		if known == name {
			return i
		}
	}
	return -1
}

func (s *story) attempt(l *line) error {
	s.opinion.Judged["attempts"]++
	kind := s.messages
	if l.Kind == "receipt" {
		kind = s.receipts
	} else if l.Kind != "message" || l.Digest == nil {
		return errors.New("an attempt is a receipt, or a message with the digest of its content")
	}
	r := kind[l.Key]
	if r == nil {
		r = &request{key: l.Key, conversation: l.Conversation, begun: [2]float64{math.Inf(1), math.Inf(1)}}
		kind[l.Key] = r
	}
	if l.Outcome != "ok" && l.Outcome != "failed" && l.Outcome != "unknown" {
		return fmt.Errorf("%q is no outcome", l.Outcome)
	}
	if l.Outcome != "failed" {
		r.possible = true
		if l.Sent < r.begun[0] {
			r.begun[0], r.begun[1] = l.Sent, r.begun[0]
		} else if l.Sent < r.begun[1] {
			r.begun[1] = l.Sent
		}
	}
	s.answered(l, r)
	if l.Outcome == "ok" {
		r.acknowledged = true
	}
	if l.Kind == "message" {
		return s.sentBody(l, r)
	}
	return nil
}

// answered judges an answer as far as it can be judged alone.
func (s *story) answered(l *line, r *request) {
	switch {
	case l.Status >= 500 && (l.Status != 503 || l.RetryAfter == ""):
		s.opinion.add(wrong, l.Key, "%d by %s", l.Status, l.Via)
	case l.Status == 422:
		s.refused = append(s.refused, answer{r, l.Ended, l.Via})
	case l.Status >= 400 && l.Status < 500:
		s.opinion.add(wrong, l.Key, "%d by %s for a good request", l.Status, l.Via)
	case l.Hit:
		s.hits = append(s.hits, answer{r, l.Ended, l.Via})
	}
}

func (s *story) sentBody(l *line, r *request) error {
	b := s.bodies[*l.Digest]
	if b == nil {
		b = &body{request: r, sent: math.Inf(1), acked: math.Inf(1)}
		for i := range b.in {
			b.in[i].appended = math.Inf(1)
		}
		s.bodies[*l.Digest] = b
		r.bodies = append(r.bodies, b)
		in := s.conversation(l.Conversation)
		in.bodies = append(in.bodies, b)
	}
	if b.request != r {
		return fmt.Errorf("%s and %s have the same content: such histories can't be judged", b.request.key, r.key)
	}
	b.sent = math.Min(b.sent, l.Sent)
	b.possible = b.possible || l.Outcome != "failed"
	if l.Outcome != "ok" {
		return nil
	}
	note(&r.ids, l.MessageID)
	note(&r.told, l.AcceptedAt)
	if l.Ended < b.acked {
		b.acked, b.id = l.Ended, l.MessageID
	}
	if l.Hit { // It says that an earlier attempt appended, and not on which phase.
		return nil
	}
	for _, name := range s.mustHold(l.Phase) {
		if log := s.log(name); log >= 0 {
			in := &b.in[log]
			in.asked, in.by = true, l.Via
			in.appended = math.Min(in.appended, l.Ended)
		}
	}
	return nil
}

// note adds a text that is not there yet.
func note(texts *[]string, text string) {
	if !has(*texts, text) {
		*texts = append(*texts, text)
	}
}

func has(texts []string, text string) bool {
	for _, known := range texts {
		if known == text {
			return true
		}
	}
	return false
}

func (s *story) row(l *line) error {
	if l.Digest == nil {
		return errors.New("a row has the digest of its content")
	}
	made := &row{
		id: l.MessageID, key: l.Key, conversation: l.Conversation, log: l.Log, offset: l.Offset,
		partition: l.Partition, digest: *l.Digest,
	}
	s.rows = append(s.rows, made)
	in := s.conversation(l.Conversation)
	in.rows = append(in.rows, made)
	made.request, made.body = s.messages[l.Key], s.bodies[*l.Digest]
	if r := made.request; r != nil {
		if r.row == nil {
			r.row = made
		}
		note(&r.ids, l.MessageID)
	}
	made.from = s.offsets.address(s.log(l.Log), l.Partition, l.Offset)
	return nil
}

func (s *story) receipt(l *line) {
	r := s.receipts[l.Key]
	if r == nil || !r.possible {
		s.opinion.add(phantoms, l.Key, "a receipt that nobody sent, or that was refused")
		return
	}
	if r.present {
		s.opinion.add(doubled, l.Key, "a second row of a receipt")
	}
	r.present = true
}

func (s *story) record(l *line) error {
	log := s.log(l.Log)
	if log < 0 {
		return fmt.Errorf("the history line does not name the log %q", l.Log)
	}
	if l.Bytes == nil {
		return errors.New("a record has the digest of its bytes")
	}
	s.counts[log]++
	at := s.offsets.address(log, l.Partition, l.Offset)
	var b *body
	if l.Digest != nil {
		b = s.bodies[*l.Digest]
	}
	if l.MirrorOf != "" {
		from, err := s.original(l)
		if err != nil {
			return err
		}
		s.copies = append(s.copies, copied{from, b, l.Offset, l.MirrorOf, *l.Bytes})
	}
	if b == nil || b.in[log].at > 0 {
		made := recorded{bytes: *l.Bytes, content: l.Digest != nil}
		if made.content {
			made.digest = *l.Digest
		}
		s.others[at] = made
	} else {
		in := &b.in[log]
		in.at, in.partition, in.stands, in.bytes = s.counts[log], l.Partition, at, *l.Bytes
	}
	if b == nil {
		return nil
	}
	if len(b.request.bodies) > 1 {
		s.inLog[log][l.MessageID] = true
	}
	note(&b.request.ids, l.MessageID)
	note(&b.request.stand, l.AcceptedAt)
	return nil
}

// firstAt says whether a body stands first at this place of a log.
func (b *body) firstAt(at address) bool {
	return b != nil && at.log >= 0 && b.in[at.log].at > 0 && b.in[at.log].stands == at
}

func (s *story) original(l *line) (address, error) {
	for i := 0; i < len(l.MirrorOf); i++ {
		if l.MirrorOf[i] == ':' {
			partition := l.Partition
			if l.MirrorPartition >= 0 {
				partition = l.MirrorPartition
			}
			return s.offsets.address(s.log(l.MirrorOf[:i]), partition, l.MirrorOf[i+1:]), nil
		}
	}
	return address{}, fmt.Errorf("%q names no record as LOG:OFFSET", l.MirrorOf)
}
