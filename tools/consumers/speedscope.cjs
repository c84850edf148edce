// Runs speedscope's own importer (npm package speedscope) on a file: prints each profile's name and weight.
const fs=require('fs'),vm=require('vm'),path=require('path');
const [dir,file]=process.argv.slice(2);
const bundle=fs.readdirSync(dir).find(n=>/^speedscope-.*\.js$/.test(n));
let code=fs.readFileSync(path.join(dir,bundle),'utf8');
const m=code.match(/async function (\w+)\(t,e\)\{return\(await \w+\)\.importProfileGroupFromText\(t,e\)\}/);
code=code.replace(m[0],`globalThis.__importer=${m[1]};${m[0]}`);
const anything=()=>{const f=function(){};return new Proxy(f,{get:(t,k)=>k===Symbol.toPrimitive?()=>'':k===Symbol.iterator?function*(){}:k==='then'?undefined:anything(),set:()=>true,apply:()=>anything(),construct:()=>anything(),has:()=>true})};
const sandbox={console:{log(){},warn(){},error(){}},document:anything(),window:anything(),navigator:anything(),location:{hash:'',search:''},localStorage:anything(),
 TextDecoder,TextEncoder,Uint8Array,setTimeout,clearTimeout,performance,URL,Promise,process:undefined,atob,fetch:undefined,requestAnimationFrame(){},addEventListener(){},matchMedia:anything(),getComputedStyle:anything(),Element:class{},HTMLElement:class{},Image:class{},FontFace:anything(),self:{}};
sandbox.globalThis=sandbox;vm.createContext(sandbox);
try{vm.runInContext(code,sandbox)}catch(e){if(!sandbox.__importer){console.error(String(e));process.exit(1)}}
sandbox.__importer(path.basename(file),fs.readFileSync(file,'utf8')).then(g=>{
 if(!g){console.error('refused');process.exit(1)}
 console.log(JSON.stringify(g.profiles.map(p=>[p.getName(),p.getTotalWeight(),p.getWeightUnit?p.getWeightUnit():''])));process.exit(0)},e=>{console.error(e);process.exit(1)});
