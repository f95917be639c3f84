package main

import (
	"encoding/json"
	"math/rand"
	"reflect"
	"strings"
	"testing"
)

// shapes are lines as the rehearsal writes them.
var shapes = []string{
	`{"type":"history","version":2,"old":"redis","new":null,"logs":["redis","kafka.b@32"]}`,
	`{"type":"attempt","client":"w","kind":"message","conversation":"c-1","key":"w:c:1","sent":12.5,"ended":null,"outcome":"ok","via":"ingress-1","digest":"00112233445566778899aabbccddeeff","phase":0,"status":202,"messageId":"id","acceptedAt":"2026-11-24T20:18:19.123456Z","hit":false,"retryAfter":"1","detail":"x"}`,
	`{"type":"row","seq":7,"messageId":"id","key":"k","conversation":"c","digest":"00112233445566778899AABBCCDDEEFF","log":"redis","partition":3,"offset":"1-0","at":-3.25}`,
	`{"type":"record","log":"kafka","partition":0,"offset":"9","messageId":"id","bytes":"ffeeddccbbaa99887766554433221100","acceptedAt":"2026-11-24T20:18:19.123456Z","digest":"00112233445566778899aabbccddeeff","mirrorOf":"redis:1-0","mirrorPartition":12}`,
	`{"type":"page","conversation":"c","messageIds":["a","b"]}`,
	`{"type":"deadLetter","messageId":"id","reason":"x","attempts":3,"error":"no"}`,
	`{"type":"end","lines":12}`,
}

// pieces are put where they may be right, wrong or unusual.
var pieces = []string{
	`"`, `\`, `\n`, `\u0041`, `\ud800`, "\x01", "\xff", "é", `null`, `true`, `0`, `01`, `-`, `-0`, `1.5`,
	`1e3`, `1.`, `99999999999999999999`, `{}`, `[1,{"a":[]}]`, `[]`, `,`, `:`, ` `, "\t", `"TYPE":"row",`,
	`"unknown":{"a":1},`, `"type":"receipt",`, `"sent":null,`, `"digest":null,`, `}`, `{`,
}

// TestScan holds that a line is what encoding/json makes of it, wherever scan reads it.
func TestScan(t *testing.T) {
	dice := rand.New(rand.NewSource(1))
	read := 0
	for n := 0; n < 100_000; n++ {
		text := shapes[dice.Intn(len(shapes))]
		for dice.Intn(3) > 0 {
			text = damaged(dice, text)
		}
		digests := make([]digest, 0, 2)
		got, want := newLine(), newLine()
		if !scan(text, &got, &digests) {
			continue
		}
		read++
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\n got %+v\nwant %+v", text, got, want)
		}
	}
	if read < 20_000 {
		t.Errorf("only %d lines were read", read)
	}
}

// TestScanReadsWhatIsWritten holds that the plain shapes need no encoding/json.
func TestScanReadsWhatIsWritten(t *testing.T) {
	for _, text := range shapes {
		var digests []digest
		if into := newLine(); !scan(text, &into, &digests) {
			t.Errorf("not read: %s", text)
		}
	}
}

// TestAddressesAreAsDifferentAsTheirOffsets holds that no two offsets are taken for one.
func TestAddressesAreAsDifferentAsTheirOffsets(t *testing.T) {
	texts := []string{
		"", "0", "00", "1", "01", "1-0", "1-00", "01-0", "0-1", "1-", "-1", "1-0-0", "+1", "a", "A",
		"18446744073709551616", "18446744073709551617", "0-18446744073709551616",
	}
	known, seen := offsets{}, map[address]string{}
	for round := 0; round < 2; round++ {
		for _, text := range texts {
			at := known.address(1, 2, text)
			if other, there := seen[at]; there && other != text {
				t.Errorf("%q and %q are both %v", other, text, at)
			}
			seen[at] = text
		}
	}
	if len(seen) != len(texts) {
		t.Errorf("%d addresses of %d offsets", len(seen), len(texts))
	}
}

// damaged puts a piece somewhere, takes some bytes away, or swaps two values.
func damaged(dice *rand.Rand, text string) string {
	at := dice.Intn(len(text) + 1)
	switch dice.Intn(3) {
	case 0:
		return text[:at] + pieces[dice.Intn(len(pieces))] + text[at:]
	case 1:
		if end := at + dice.Intn(4); end <= len(text) {
			return text[:at] + text[end:]
		}
		return text[:at]
	}
	fields := strings.Split(text, ",")
	a, b := dice.Intn(len(fields)), dice.Intn(len(fields))
	fields[a], fields[b] = fields[b], fields[a]
	return strings.Join(fields, ",")
}
