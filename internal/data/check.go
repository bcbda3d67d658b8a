package data

// State is what came of a Check.
type State string

const (
	Passed  State = "passed"
	Allowed State = "allowed" // it failed, and the recipe allows that
	Refused State = "refused" // it failed, and nothing is trained
	Counted State = "counted" // nothing to be refused, but worth knowing
)

// Check is one test of a dataset's rows, or of what all of them share.
type Check struct {
	Name    string   `json:"name"`
	State   State    `json:"state"`
	Rows    int      `json:"rows"`             // that fail; 0 too where the check is not one of rows
	Finding string   `json:"finding"`          // what was found: "3 of 12 rows are cut to ..."
	Advice  string   `json:"advice,omitempty"` // what to do about it
	Places  []string `json:"places,omitempty"` // of the first rows that fail, as Report.Where says
	Eval    bool     `json:"eval,omitempty"`   // of the rows that are for evaluation
}
