package tokenizer_test
import ("testing";"os";"encoding/json";"cria/internal/tokenizer")
func TestTmpDiff(t *testing.T){
  d,_:=os.ReadFile(os.Getenv("TOK")); if len(d)==0 {t.Skip()}
  tok,err:=tokenizer.Parse(d)
  if err!=nil{t.Fatal(err)}
  var S []string; in,_:=os.ReadFile(os.Getenv("IN")); json.Unmarshal(in,&S)
  ids:=make([][]int32,len(S)); a:=make([]string,len(S)); b:=make([]string,len(S))
  for i,s:=range S { ids[i]=tok.Encode(s); a[i]=tok.Decode(ids[i],true); b[i]=tok.Decode(ids[i],false)
   if streamed(tok,ids[i],true)!=a[i] {t.Error("stream",i)} }
  out,_:=json.Marshal([]any{ids,a,b}); os.WriteFile(os.Getenv("OUT"),out,0644)
}
