package recipe

// Choices are the words that a key takes, for keys that take nothing else or, as report_to and allow do, a list of them;
// nil where values are free.
func (k *Key) Choices() []string {
	switch v := k.value(defaults()).(type) {
	case choice:
		return v.values
	case choices:
		return v.values
	case boolean:
		return []string{"true", "false"}
	case autoFlag:
		return []string{"auto", "true", "false"}
	}
	return nil
}
