"""Patterns of statements of an answer, in the styles that models are trained to write: English, and others of exams."""

import re

TAGS = re.compile(
    r"<\s*(?P<name>answer|final_answer|final|ans|choice|option|prediction|conclusion|response)\s*>(?P<content>.*?)(?:<\s*/\s*(?P=name)\s*>|\Z)"
    r"|<\|begin_of_box\|>(?P<glm>.*?)(?:<\|end_of_box\|>|\Z)"
    r"|\[\s*(?:final\s+)?answer\s*\](?P<square>.*?)(?:\[\s*/\s*(?:final\s+)?answer\s*\]|\n|\Z)",
    re.IGNORECASE | re.DOTALL,
)
BOXED = re.compile(r"\\?\b(?:boxed|fbox)\s*\{|\\boxed\s+(?=\w)")
BOX_MARKS = re.compile(r"\}|\\?\b(?:boxed|fbox)\s*\{")
KEYS = frozenset(
    re.findall(
        r"\w+",
        """answer finalanswer answerchoice answerletter correctanswer correctoption choice option finalchoice letter
        selectedoption selectedanswer prediction predictedanswer diagnosis result output response label value answers choices
        options labels findings antwort respuesta resposta reponse 答案""",
    )
)
BEST_KEYS = ("answer", "finalanswer", "answerchoice", "answerletter", "correctanswer", "correctoption")
JSON_PAIR = re.compile(
    r"""["'](?P<key>[\w \-]{1,40})["']\s*:\s*"""
    r"""(?P<value>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\[[^\[\]]*\]|[^\s,{}\[\]"'][^,{}\n]*)"""
)

ADJECTIVE = (
    r"(?:(?:single|most|correct|best|right|proper|appropriate|accurate|likely|probable|suitable|true|my|our|selected|chosen|"
    r"predicted|short|direct|plausible)\s+){0,4}"
)
NOUN = r"(?:answers?|ans|options?|choices?|prediction|diagnosis|response|conclusion|guess|pick|selection|vote|impression|verdict)"
IS = r"(?:is|are|was|would\s+be|should\s+be|must\s+be|has\s+to\s+be|will\s+be|appears\s+to\s+be|seems\s+to\s+be)\b"
ADVERBS = r"(?:\s*,?\s*\b(?:therefore|thus|hence|then|likely|most\s+likely|probably|clearly|simply|indeed|definitely|that)\b,?)*"
FINAL = re.compile(
    rf"\b(?:final|ultimate)\s+{ADJECTIVE}(?:{NOUN}|decision|result|value|score)\b(?:\s+(?:to|for)\s+[^.:\n]{{1,60}}?)?"
    rf"(?:\s*\([^)\n]{{0,30}}\))?\s*(?:{IS}|[:=])?{ADVERBS}\s*:?|(?m:^\s*\#{{4}}\s+)",
    re.IGNORECASE,
)
LABEL = re.compile(
    rf"(?:(?:^|(?<=\n)|(?<=[.!?;)\]]\s)|(?<=[.!?]))[\s>•\-\d.)(\"\[]{{0,12}})(?:the\s+)?{ADJECTIVE}{NOUN}"
    r"(?:\s+(?:letter|option|choice|selected|matches))?(?:\s*\([^)\n]{0,30}\))?[\"\]]?\s*(?::|=|-\s|\n|[\U0001f449\u25b6\u27a1\u2705]+)"
    r"|(?m:^[\s>*]{0,8}ans\.\s)|\b(?:correct|right|best)\s+ones?(?:\s+(?:is|are))?\s*:",
    re.IGNORECASE,
)
SENTENCE = re.compile(
    rf"\b{ADJECTIVE}{NOUN}\b(?:\s+(?:to|for|of|from|among|here|that|which|in)\b[^.?!:\n]{{0,80}}?)?(?:\s+{IS}|'s\b){ADVERBS}\s*:?"
    rf"|\bthe\s+(?:single\s+)?(?:most|next\s+best|best|first)\s+(?!of\b)\w+(?:\s+[\w'-]+){{0,8}}?\s+{IS}{ADVERBS}\s*:?"
    r"|\b(?:i|we)\s*(?:'d|'ll|'m\s+going\s+to)?\s*(?:(?:would|will|can|must|should|have\s+to|am\s+going\s+to|therefore|thus|"
    r"confidently|be|am|'m)\s+)*(?:choose|chose|select|selected|pick|picked|go\s+(?:with|for)|going\s+(?:with|for)|opt\s+for|answer|"
    r"conclude(?:\s+that)?|vote\s+for|lean(?:ing)?\s+(?:more\s+)?(?:towards?|to)|(?:am\s+)?inclined\s+(?:towards?|to\s+say)|settl[e]\s+on|favou?r|say(?:\s+that)?)\b"
    r"(?:\s+(?:with|it\s+is))?\s*:?"
    r"|\b(?:leads?|leading|points?|pointing)\s+(?:us\s+)?to\s+(?:the\s+)?(?:answer|option|choice)\s*:?"
    r"|\b(?:selected|chosen|correct|matching)\s+(?:one|option|choice|answer)?\s*:\s*",
    re.IGNORECASE,
)
LOCAL = re.compile(
    r"(?:最终|最後の|正确|正確|正しい)?(?:答案|答え|回答|正解|选项|選項|解答|選択肢)\s*(?:应该|應該|应|應)?\s*(?:是|为|為|选|選|は|が)?\s*:?\s*"
    r"|(?<!不)(?:正确|正確|最佳|最合适|最合適|最可能|最符合|最适合)的?(?:题意)?的?(?:诊断|診斷|选择|結果|结果)?(?:是|为|為)\s*:?\s*"
    r"|(?:包括|即为|即是|即)(?=\s*[A-Z](?![A-Za-z]))|(?:最も適切な(?:もの|選択肢|答え)|最も考えられる(?:の|診断)|正しいもの)は\s*|(?:가장\s?(?:적절|적합|가능성이?\s?(?:높|큰))\S*\s?(?:것|답|진단|선택지)?)(?:은|는)\s*"
    r"|\b(?:me\s+quedo\s+con|elijo|escojo|opto\s+por|selecciono|elegiría|escogería|marcaría)\s+(?:la\s+)?(?:opción\s+|letra\s+)?"
    r"|\b(?:la\s+)?(?:opción\s+|alternativa\s+|letra\s+)?correcta\s+(?:es|sería)\s+(?:la\s+)?(?:opción\s+|letra\s+)?"
    r"|\bje\s+(?:choisis|retiens|sélectionne|choisirais|opte\s+pour|dirais)\s+(?:la\s+)?(?:réponse\s+|option\s+|proposition\s+)?"
    r"|\b(?:la\s+)?(?:bonne|meilleure)\s+(?:réponse|option|proposition)\s*(?:est|serait|:)\s*(?:la\s+)?"
    r"|\bich\s+(?:wähle|würde|entscheide\s+mich\s+für|tippe\s+auf)\s+(?:antwort\s+|option\s+)?|\brichtig\s+(?:ist|wäre)\s+(?:antwort\s+|option\s+)?"
    r"|\b(?:die\s+)?(?:richtige|korrekte|beste)\s+(?:option|lösung|antwort)\s*(?:ist|lautet|wäre|:)\s*"
    r"|\b(?:escolho|fico\s+com|marco|escolheria)\s+(?:a\s+)?(?:letra\s+|alternativa\s+|opção\s+)?|\b(?:scelgo|opto\s+per)\s+(?:la\s+)?"
    r"|\ba\s+(?:letra|alternativa|opção|resposta)\s+(?:correta|certa)\s+(?:é|seria)\s+(?:a\s+)?(?:letra\s+|alternativa\s+)?"
    r"|(?:故|应|應|因此|所以)?\s*(?:选择|選擇|选|選)(?=\s*:?\s*[A-Za-z(（])\s*:?|(?:최종\s*)?(?:정답|답변|답)(?:은|는|이)?\s*:?\s*"
    r"|\b(?:la\s+)?(?:mejor\s+)?respuesta(?:\s+(?:correcta|final))?\s*(?:(?=no\s+es\b)|es|:)\s*(?:la\s+)?(?:opción\s+)?"
    r"|\b(?:a\s+)?(?:resposta|alternativa)(?:\s+(?:correta|final))?\s*(?:é|:)\s*(?:a\s+)?(?:alternativa\s+)?"
    r"|\b(?:la\s+)?(?:bonne\s+)?réponse(?:\s+(?:correcte|finale))?\s*(?:est|:)\s*(?:la\s+)?"
    r"|\b(?:die\s+)?(?:richtige\s+|korrekte\s+)?antwort\s*(?:ist|lautet|:)\s*"
    r"|\b(?:la\s+)?risposta(?:\s+(?:corretta|finale))?\s*(?:è|:)\s*(?:la\s+)?"
    r"|\b(?:prawidłowa\s+|poprawna\s+)?odpowiedź\s*(?:to|:)\s*"
    r"|(?:правильный\s+)?ответ\s*(?:это|-|:)\s*|(?:верният\s+|правилният\s+)?отговор\s*(?:е|:)\s*",
    re.IGNORECASE,
)
VERDICT = re.compile(
    r"\s*(?:选项|選項|项)?(?<!不)(?<!不是)(?:是|为|為)?(?:最)?(?<!不)(?:正确|正確|佳选择|佳答案|合适|符合|可能的诊断)(?:的|答案|选项|選項)?(?!率)"
    r"|\s*(?:が|は)\s*(?:最も)?(?:正解|正しい|適切|考えられる)|\s*を(?:選|選択)"
    r"|(?:번)?(?:이|가)\s*(?:가장\s*)?(?:정답|맞|옳|적절|적합|답)|(?:번)?(?:를|을)\s*(?:선택|고르|고릅|택)"
    r"|\s+(?:es|sería)\s+(?:la\s+)?(?:respuesta\s+|opción\s+)?(?:más\s+)?(?:correct[ao]|adecuad[ao]|probable)\b"
    r"|\s+est\s+(?:la\s+)?(?:bonne|correcte|exacte|meilleure)\b|\s+ist\s+(?:die\s+)?(?:richtig|korrekt)\w*|\s+é\s+(?:a\s+)?(?:resposta\s+|alternativa\s+)?corret[ao]\b"
    r"|\s+best\s+(?:fits|matches|explains|describes|represents|corresponds\s+to|accounts\s+for|answers)\b"
    r"|\s+(?:fits|matches|explains|describes)\s+(?:[^.,;\n]{0,40}\s)?best\b|\s+makes\s+the\s+most\s+sense\b|\s+it\s+(?:is|must\s+be|has\s+to\s+be)(?=\s*(?:[.,;!]|$))|\s+(?:remains|is\s+left)(?=\s*(?:[.,;]|$))"
    r"|\s+(?:is|are|would\s+be|seems|appears|remains)\s+(?:to\s+be\s+)?(?:therefore\s+|thus\s+|hence\s+|indeed\s+|clearly\s+|also\s+|all\s+|both\s+)?(?:the\s+|my\s+)?(?:most\s+|final\s+|single\s+|only\s+)?"
    r"(?:correct|right|best|accurate|appropriate|answer|choice|pick|(?:likely|probable)(?:\s+(?:diagnosis|answer|option|choice)|(?=\s*(?:[,.;]|$))))\b(?!\s+(?:if|when|only|in)\b)",
    re.IGNORECASE,
)
DECLARED = re.compile(
    r"(?:^|(?<=[.!?]\s)|(?<=\n))[^\w\n]{0,8}(?:(?:so|thus|therefore|hence|overall)\s*,?\s+)?(?:i\s+(?:think|believe|suspect|would\s+say|'d\s+say)\s+"
    r"(?:that\s+)?)?(?:this|it|that|(?:the|this)\s+(?:\w+\s+)?(?:lesion|findings?|diagnosis|abnormality|"
    r"tumou?r|structure|organ|vessel|plane|modality|view|image|scan|stain|nerve|sequence|muscle|bone)"
    r"(?:\s+(?:shown|indicated|marked|labell?ed|pointed|in|at|by|seen|depicted|identified|used|here|of|affected|involved)\b[^.\n]{0,60}?)?)(?:\s+is|'s|\s+appears\s+to\s+be|\s+looks)\s+(?:most\s+likely\s+|likely\s+|probably\s+|clearly\s+)*",
    re.IGNORECASE,
)
LIKELIEST = re.compile(
    r"\b(?:most|highly|best|more|classic(?:ally)?|strongly)\s+(?:likely|consistent\s+with|suggestive\s+of|suggests?|compatible\s+with|indicative\s+of|"
    r"in\s+keeping\s+with|typical\s+(?:of|for)|characteristic\s+of|fits?|explained\s+by)\b"
    r"|\b(?:is|are|looks?|seems?|appears?)\s+(?:consistent\s+with|compatible\s+with|typical\s+(?:of|for)|characteristic\s+of|diagnostic\s+of|classic\s+for|"
    r"pathognomonic\s+(?:of|for)|in\s+keeping\s+with)\b"
    r"|\bmak(?:es|ing)\s+(?=[^.,\n]{1,60}\bthe\s+(?:better|best|most|likeliest|correct|right)\b)",
    re.IGNORECASE,
)
CONTENT_END = re.compile(
    r"\b(?:explanation|rationale|reasoning|reason|justification|solution|analysis|explication|explicación|confidence)\s*:|解析\s*:",
    re.IGNORECASE,
)
TURN = re.compile(r",?\s+(?:but|although|however|though|whereas|while)\b", re.IGNORECASE)
SENTENCE_END = re.compile(r"(?<![ (][A-Za-z])(?<!^[A-Za-z])(?:[.!?](?=\s+[A-Z\"'(]|\s*$)|[。！？])|[?!](?=\s)")
CONCLUDES = re.compile(
    r"(?:therefore|thus|hence|so|in\s+conclusion|in\s+summary|finally|overall|consequently|accordingly|to\s+sum\s+up|"
    r"ultimately|based\s+on\s+[^.\n]{1,80}|given\s+[^.\n]{1,80}|综上|因此|所以|よって|따라서)\s*,?\s*(?:the\s+|my\s+|i\s+|we\s+)?$",
    re.IGNORECASE,
)
CORRECTS = re.compile(
    r"\b(?:wait|actually|correction|on\s+second\s+thought|let\s+me\s+(?:re|double|correct|check|think)\w*|i\s+made\s+a\s+mistake|"
    r"i\s+was\s+wrong|no,|hmm|sorry|apologi[sz]e|scratch\s+that|reconsider\w*|re-?evaluat\w*|upon\s+(?:further|closer))",
    re.IGNORECASE,
)
EXCEPTION = re.compile(
    rf"\b(?:the\s+)?(?:(?:only\s+)?exception|odd\s+one(?:\s+out)?|(?:least\s+\w+|incorrect|false|wrong|untrue|inaccurate|unlikely)\s+"
    rf"(?:{NOUN}|statement|one|finding|feature|cause|step|item|sign|treatment))\s*(?:here\s+|among\s+them\s+)?(?:{IS}|:)\s*"
    rf"|\bthe\s+\w+(?:\s+\w+){{0,2}}\s+(?:that|which)\s+(?:\w+\s+){{0,3}}?(?:not|cannot|least|\w+n't)\b[^.\n]{{0,60}}?\s+{IS}\s*"
    r"|\bleast\s+(?:likely|probable|appropriate|common|consistent|associated)\s*(?:is|:|=)\s*"
    r"|\ball\b[^.\n]{0,80}\bexcept\b(?:\s+for)?\s*:?\s*|(?:不正确|不正確|错误|錯誤|不属于|不符合|不包括|不是|不恰当)的?(?:选项|说法|項目|一项)?(?:是|为|為)\s*:?\s*"
    r"|\b(?:la\s+)?(?:opción\s+|afirmación\s+|respuesta\s+)?(?:incorrecta|falsa)\s+es\s+(?:la\s+)?|(?:옳지\s?않은|틀린|아닌|잘못된)\s?(?:것|답|설명|선택지)(?:은|는)\s*",
    re.IGNORECASE,
)
"""Behind it: the option that a question for an exception asks for."""
EXCEPTION_VERDICT = re.compile(
    r"\s+(?:is|are|was|would\s+be)\s+(?:therefore\s+|thus\s+|clearly\s+)?(?:the\s+)?(?:only\s+)?(?:exception|odd\s+one|false|incorrect|wrong|untrue|inaccurate|"
    r"not\b|least\b|unrelated|unlikely)|\s+(?:does|do|has|have|should|would|will|can)\s+not\b|\s+(?:isn't|aren't|doesn't|don't|cannot|can't)\b"
    r"|\s*(?:选项|項|项)?(?:是|为)?(?:错误|錯誤|不正确|不正確|不属于|不是|不符合|错)|\s+(?:es|no\s+es)\s+(?:la\s+)?(?:incorrecta|falsa)|(?:이|가)\s*(?:틀|아닌|옳지)",
    re.IGNORECASE,
)
"""Before it: the same."""
RIGHT_ANSWER = re.compile(
    r"\b(?:answer|option|choice|exception|statement)s?\b|答案|正解|정답|respuesta|réponse|antwort|resposta",
    re.IGNORECASE,
)
