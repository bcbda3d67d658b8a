package kernels
import ("testing";"time";"fmt";"os";"sort")
func TestBlk(t *testing.T){
	if os.Getenv("BLK")=="" {t.Skip()}
	for _, bf := range []bool{false,true} {
	ar:=Arith{AVX512BF16,bf}
	peak:=PeakF32(ar.Level); if bf {peak=PeakBF16(ar.Level)}
	for _, s := range [][3]int{{960,576,1536},{960,4096,1024},{960,4096,4096},{480,14336,1024}} {
		m,k,n:=s[0],s[1],s[2]
		p:=NewPanels(ar.Level,k,n,true); for i:=range p.h {p.h[i]=uint16(i)&0x3fff}
		var o Operand; o.Reset(ar,m,k); row:=make([]float32,k); for i:=range m {o.SetRow(i,row)}
		c:=Alloc(m*n)
		var ts []float64
		for rep:=0; rep<6*1024/k+1; rep++ {
			for j:=0;j<n;j+=256 { for i:=0;i<m;i+=96 {
				s:=time.Now(); p.Mul(c,n,&o,i,i+96,j,min(j+256,n),false); ts=append(ts,time.Since(s).Seconds())
			}}
		}
		sort.Float64s(ts)
		f:=2*96*float64(k)*256/1e9/peak*100
		fmt.Printf("bf %v %v: best %.1f%% p10 %.1f%% median %.1f%%\n",bf,s,f/ts[0],f/ts[len(ts)/10],f/ts[len(ts)/2])
	}}
}
