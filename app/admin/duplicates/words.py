"""Words that do not tell one name from another, and domains that do not tell whose an address is. All in small letters,
without accents and without dots.
"""

from __future__ import annotations

LEGAL_FORMS = frozenset(
    """
    gmbh mbh ggmbh ag kg kgaa ohg gbr ug haftungsbeschrankt ev eg ek ges gesmbh ltd limited llc llp lp plc cic inc
    incorporated corp corporation co company pty pvt private sa sas sarl sasu eurl sci scs snc srl spa sapa sl slu sau
    sc bv nv vof cv bvba sprl ab hb aps as asa oy oyj oue ou uab sia kft zrt nyrt bt sro spol doo dd ad ood eood sp zoo
    ooo oao zao pao ao too tov ip chp pt tbk pte sdn bhd berhad ltda eireli sac sapi jsc pjsc cjsc ojsc fzc fze fzco
    wll kk gk yk ae epe ike aktiengesellschaft z oo
    """.split()
)
# Written without blanks around them.
LEGAL_FORMS_UNSPACED = tuple("株式会社 有限会社 合同会社 股份有限公司 有限公司 有限責任公司 주식회사 (주)".split())
# Between the parts of a company's name.
FILLERS = frozenset("and und et y e i en og och ja the of de".split())
TITLES = frozenset("mr mrs ms miss mx dr drs prof herr frau hr fr ing dipl mag sir madame monsieur sr jr".split())
# Of a short name, the name that it is short for; where it is short for several, the most frequent one.
NICKNAMES = {
    nickname: name
    for name, nicknames in {
        "alexander": "alex alec sascha sasha xander",
        "andrew": "andy drew",
        "anthony": "tony",
        "benjamin": "ben benny",
        "catherine": "cathy kate katie katherine kathryn kathy",
        "charles": "charlie chuck",
        "christine": "christina tina",
        "christopher": "chris kit",
        "daniel": "dan danny",
        "david": "dave davey",
        "deborah": "debbie debra deb",
        "edward": "ed eddie ned ted teddy",
        "elizabeth": "beth betty liz lizzie eliza elisabeth",
        "eugene": "gene",
        "francis": "frank",
        "frederick": "fred freddy frederik friedrich fritz",
        "gregory": "greg",
        "hans": "johann johannes",
        "heinrich": "heinz",
        "ivan": "vanya",
        "jacob": "jake",
        "james": "jim jimmy jamie",
        "jennifer": "jen jenny",
        "john": "jack johnny jon",
        "jonathan": "jonny",
        "joseph": "joe joey josef sepp",
        "jose": "pepe",
        "francisco": "paco pancho",
        "giuseppe": "beppe peppe",
        "kenneth": "ken kenny",
        "lawrence": "larry",
        "leonard": "leo lenny",
        "margaret": "maggie meg peggy greta",
        "matthew": "matt",
        "michael": "mike mick mikey michi",
        "nathaniel": "nate nat",
        "nicholas": "nick nicky nicolas",
        "patricia": "pat patty trish",
        "peter": "pete",
        "philip": "phil phillip",
        "rebecca": "becky",
        "richard": "dick rick rich ricky",
        "robert": "bob bobby rob robby bert",
        "ronald": "ron ronny",
        "samuel": "sam sammy",
        "stephen": "steve steven stefan stephan",
        "susan": "sue suzy susie",
        "theodore": "theo",
        "thomas": "tom tommy",
        "timothy": "tim",
        "victoria": "vicky",
        "vladimir": "volodya vova",
        "dmitriy": "dima dmitry dmitri",
        "mariya": "masha",
        "nataliya": "natasha",
        "william": "bill billy will willie liam wilhelm willi",
        "zachary": "zach",
    }.items()
    for nickname in nicknames.split()
}
# Whoever likes has an address there, or a page. Of those in FAMILIES the ending does not matter: yahoo.co.uk.
PUBLIC_DOMAINS = frozenset(
    """
    163.com 126.com 139.com 189.cn 1und1.de a1.net arcor.de att.net bellsouth.net bigpond.com bk.ru bluewin.ch
    btinternet.com centrum.cz charter.net chello.at comcast.net cox.net daum.net duck.com earthlink.net email.com
    email.cz fastmail.com fastmail.fm free.fr freenet.de gmail.com googlemail.com hanmail.net hey.com hushmail.com
    inbox.lv inbox.ru interia.pl laposte.net libero.it list.ru mac.com mail.com mail.de mail.ru me.com msn.com
    mailbox.org naver.com nate.com o2.pl online.de onet.pl optonline.net orange.fr posteo.de privaterelay.appleid.com
    proton.me protonmail.com pm.me qq.com rambler.ru rediffmail.com rocketmail.com rogers.com sbcglobal.net seznam.cz
    sfr.fr shaw.ca sina.com sky.com sohu.com sympatico.ca t-online.de talktalk.net telenet.be terra.com.br tiscali.it
    tuta.com tutanota.com tutamail.com uol.com.br bol.com.br ukr.net verizon.net virgilio.it virginmedia.com
    vodafone.de wanadoo.fr web.de wp.pl ya.ru ymail.com zoho.com zohomail.com icloud.com aol.com
    facebook.com linkedin.com instagram.com twitter.com x.com youtube.com tiktok.com github.com xing.com wixsite.com
    wordpress.com blogspot.com myshopify.com etsy.com amazon.com ebay.com linktr.ee sites.google.com google.com t.me
    """.split()
)
FAMILIES = frozenset("yahoo hotmail outlook live gmx yandex aol gmail googlemail".split())
# Mail to these goes to the same person with dots in the first part and without.
WITHOUT_DOTS = frozenset({"gmail.com", "googlemail.com"})
