// The same job in plain Go, written well: POST, one Lua call, a stream, and rows in batches.
//
// Its Redis client sends what concurrent requests ask for in one pipeline. One goroutine reads all
// streams at once and reads on while the batch before is inserted; rows go in by one unnest insert.
// It knows no ownership, no fencing, no outage, no poison, no receipts, no metrics, no shadow.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
)

const (
	group     = "go"
	batch     = 500
	maxBytes  = 1 << 20
	rememberS = "300"
)

// A repeat is answered with what was said the first time.
var appendOnce = rueidis.NewLuaScript(`
local seen = redis.call('GET', KEYS[1])
if seen then return seen end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('XADD', KEYS[2], '*', 'body', ARGV[1])
return false`)

const insert = `
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, transport,
    partition, log_offset)
SELECT id::uuid, key, id, conversation, sender, client, recipients::text[], content, type,
    fingerprint, accepted, 'redis', part, log_offset
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::timestamptz[], $11::int[], $12::text[])
    AS rows (id, key, conversation, sender, client, recipients, content, type, fingerprint,
        accepted, part, log_offset)
ON CONFLICT DO NOTHING`

type message struct {
	ConversationID  string    `json:"conversationId"`
	SenderID        string    `json:"senderId"`
	Content         string    `json:"content"`
	ContentType     string    `json:"contentType"`
	ClientMessageID string    `json:"clientMessageId"`
	RecipientIDs    []string  `json:"recipientIds"`
	MessageID       string    `json:"messageId,omitempty"`
	AcceptedAt      time.Time `json:"acceptedAt,omitzero"`
}

type acknowledgement struct {
	MessageID     string    `json:"messageId"`
	State         string    `json:"state"`
	AcceptedAt    time.Time `json:"acceptedAt"`
	IdempotentHit bool      `json:"idempotentHit"`
}

func (m message) key() string {
	return m.SenderID + "\x00" + m.ConversationID + "\x00" + m.ClientMessageID
}

type service struct {
	redis      rueidis.Client
	partitions uint32
}

func (s service) stream(conversation string) string {
	hash := fnv.New32a()
	hash.Write([]byte(conversation))
	return stream(int(hash.Sum32() % s.partitions))
}

func stream(partition int) string { return fmt.Sprintf("go:stream:%d", partition) }

func (s service) post(w http.ResponseWriter, r *http.Request) {
	var m message
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBytes))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, id := range append(m.RecipientIDs, m.ConversationID, m.SenderID, m.ContentType, m.ClientMessageID) {
		if id == "" || len(id) > 256 {
			http.Error(w, "an id is empty or too long", http.StatusUnprocessableEntity)
			return
		}
	}
	m.MessageID = uuid.NewSHA1(uuid.NameSpaceOID, []byte(m.key())).String()
	m.AcceptedAt = time.Now().UTC()
	body, _ := json.Marshal(m)
	answer := acknowledgement{m.MessageID, "pending", m.AcceptedAt, false}
	said, _ := json.Marshal(answer)
	status := http.StatusAccepted
	seen, err := appendOnce.Exec(r.Context(), s.redis,
		[]string{"go:seen:" + m.key(), s.stream(m.ConversationID)},
		[]string{string(body), string(said), rememberS}).AsBytes()
	switch {
	case err == nil:
		status = http.StatusOK
		_ = json.Unmarshal(seen, &answer)
		answer.IdempotentHit = true
	case !rueidis.IsRedisNil(err):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

type records = map[string][]rueidis.XRangeEntry

func (s service) read(ctx context.Context, to chan<- records) {
	streams, after := []string{}, []string{}
	for p := range int(s.partitions) {
		create := s.redis.B().XgroupCreate().Key(stream(p)).Group(group).Id("0").Mkstream().Build()
		if err := s.redis.Do(ctx, create).Error(); err != nil {
			log.Fatal(err)
		}
		streams, after = append(streams, stream(p)), append(after, ">")
	}
	for {
		read, err := s.redis.Do(ctx, s.redis.B().Xreadgroup().Group(group, "one").Count(batch).
			Block(5000).Streams().Key(streams...).Id(after...).Build()).AsXRead()
		if err == nil {
			to <- read
		} else if !rueidis.IsRedisNil(err) {
			log.Fatal(err)
		}
	}
}

func (s service) persist(ctx context.Context, rows *pgx.Conn, from <-chan records) {
	for read := range from {
		var ids, keys, conversations, senders, clients, recipients []string
		var contents, types, fingerprints, offsets []string
		var accepted []time.Time
		var parts []int32
		acks := make(rueidis.Commands, 0, 2*len(read))
		for name, entries := range read {
			part, _ := strconv.Atoi(name[strings.LastIndexByte(name, ':')+1:])
			done := []string{}
			for _, entry := range entries {
				body := entry.FieldValues["body"]
				var m message
				if err := json.Unmarshal([]byte(body), &m); err != nil {
					log.Fatal(err)
				}
				sum := sha256.Sum256([]byte(m.Content))
				ids, keys = append(ids, m.MessageID), append(keys, strings.ReplaceAll(m.key(), "\x00", ":"))
				conversations, senders = append(conversations, m.ConversationID), append(senders, m.SenderID)
				clients, recipients = append(clients, m.ClientMessageID), append(recipients, array(m.RecipientIDs))
				contents, types = append(contents, m.Content), append(types, m.ContentType)
				fingerprints = append(fingerprints, hex.EncodeToString(sum[:]))
				accepted, parts = append(accepted, m.AcceptedAt), append(parts, int32(part))
				offsets, done = append(offsets, entry.ID), append(done, entry.ID)
			}
			acks = append(acks,
				s.redis.B().Xack().Key(name).Group(group).Id(done...).Build(),
				s.redis.B().Xdel().Key(name).Id(done...).Build())
		}
		if _, err := rows.Exec(ctx, insert, ids, keys, conversations, senders, clients, recipients,
			contents, types, fingerprints, accepted, parts, offsets); err != nil {
			log.Fatal(err)
		}
		for _, result := range s.redis.DoMulti(ctx, acks...) {
			if err := result.Error(); err != nil {
				log.Fatal(err)
			}
		}
	}
}

func array(values []string) string {
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

func main() {
	ctx := context.Background()
	partitions, err := strconv.Atoi(os.Getenv("STREAM_PARTITIONS"))
	if err != nil {
		log.Fatal(err)
	}
	redis, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress:  []string{os.Getenv("REDIS_HOST") + ":" + os.Getenv("REDIS_PORT")},
		DisableCache: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	rows, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	s := service{redis, uint32(partitions)}
	ahead := make(chan records, 1)
	go s.read(ctx, ahead)
	go s.persist(ctx, rows, ahead)
	http.HandleFunc("POST /api/messages", s.post)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
