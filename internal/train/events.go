package train

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"
)

// TensorBoard's event files are TFRecords (tensorflow/core/lib/io/record_writer.h):
//
//	uint64 length | uint32 masked CRC-32C of the length | data | uint32 masked CRC-32C of data
//
// whose data are Event messages (tensorflow/core/util/event.proto; Summary in framework/summary.proto), of which these
// fields are written:
//
//	Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
//	Summary { repeated Value value = 1; }
//	Value   { string tag = 1; float simple_value = 2; }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

func tfRecord(data []byte) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	out = binary.LittleEndian.AppendUint32(out, maskedCRC(out))
	return binary.LittleEndian.AppendUint32(append(out, data...), maskedCRC(data))
}

// protobuf's wire types
const (
	wireVarint, wire64, wireBytes, wire32 = 0, 1, 2, 5
)

func appendBytes(b []byte, field int, data []byte) []byte {
	b = binary.AppendUvarint(b, uint64(field<<3|wireBytes))
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

func event(step int) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{1<<3 | wire64}, math.Float64bits(float64(time.Now().UnixMicro())/1e6))
	if step > 0 {
		b = binary.AppendUvarint(append(b, 2<<3|wireVarint), uint64(step))
	}
	return b
}

func eventHeader() []byte { return tfRecord(appendBytes(event(0), 3, []byte("brain.Event:2"))) }

// eventRecord has the scalars of a record, with the tags of transformers' TensorBoardCallback.
func eventRecord(e *entry) []byte {
	var summary []byte
	for _, s := range []struct {
		tag string
		v   *float64
	}{{"train/loss", e.Loss}, {"train/grad_norm", e.GradNorm}, {"train/learning_rate", e.LearningRate}, {"train/epoch", &e.Epoch},
		{"eval/loss", e.EvalLoss}, {"eval/perplexity", e.EvalPerplexity}, {"eval/runtime", e.EvalRuntime}, {"eval/samples_per_second", e.EvalSamplesPerSecond}} {
		if s.v != nil {
			value := appendBytes(nil, 1, []byte(s.tag))
			value = binary.LittleEndian.AppendUint32(append(value, 2<<3|wire32), math.Float32bits(float32(*s.v)))
			summary = appendBytes(summary, 1, value)
		}
	}
	if e.Loss == nil && e.EvalLoss == nil {
		return nil
	}
	return tfRecord(appendBytes(event(e.Step), 5, summary))
}

// keepEvents keeps the whole records of steps from 1 up to a step; at the first one that is torn or altered it stops.
func keepEvents(old []byte, step int) (out []byte) {
	for len(old) >= 16 {
		n := binary.LittleEndian.Uint64(old)
		if binary.LittleEndian.Uint32(old[8:]) != maskedCRC(old[:8]) || n > uint64(len(old)-16) {
			return out
		}
		record, data := old[:16+n], old[12:12+n]
		if binary.LittleEndian.Uint32(record[12+n:]) != maskedCRC(data) {
			return out
		}
		// An event of event: wall_time (9 bytes), then the step.
		if len(data) > 10 && data[9] == 2<<3|wireVarint {
			if s, size := binary.Uvarint(data[10:]); size > 0 && s <= uint64(step) {
				out = append(out, record...)
			}
		}
		old = old[16+n:]
	}
	return out
}
