// Steps of Jenkins for `withPermit`, which really run their scripts; or only a look whether files are Groovy.
//
//     jenkins.groovy run STEP BLOCK      runs a pipeline that is this block; ends with 3 if it fails
//     jenkins.groovy parse FILE...       ends with 1 if one of the files is no Groovy, and names each
import org.codehaus.groovy.control.CompilationFailedException
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.Phases

class Steps {
    /** The variables of `withEnv` and `withCredentials`, the innermost last. */
    List<Map> scopes = []
    Map env = [BUILD_TAG: 'jenkins-fpga-7']

    def sh(String script) { sh(script: script) }

    def sh(Map options) {
        def process = new ProcessBuilder('sh', '-xec', options.script)
        process.environment().putAll(scopes.inject([:]) { all, scope -> all + scope })
        process.redirectOutput(ProcessBuilder.Redirect.INHERIT).redirectError(ProcessBuilder.Redirect.INHERIT)
        int code = process.start().waitFor()
        if (options.returnStatus) { return code }
        if (code != 0) { throw new RuntimeException("script returned exit code ${code}") }
    }

    def string(Map options) { options }

    def withEnv(List variables, Closure body) {
        within(variables.collectEntries { it.toString().split('=', 2).toList().with { pair -> [(pair[0]): pair[1]] } }, body)
    }

    def withCredentials(List bindings, Closure body) {
        def bound = bindings.collectEntries {
            if (it.credentialsId != 'semaphore-token') { throw new RuntimeException("no credential ${it.credentialsId}") }
            [(it.variable): System.getenv('FARM_TOKEN')]
        }
        within(bound, body)
    }

    def timeout(Map options, Closure body) {
        assert options.unit == 'MINUTES' && options.time > 0
        body()
    }

    /** What a body ends with when its `timeout` is over. */
    def timedOut() { throw new InterruptedException('timeout') }

    def within(Map scope, Closure body) {
        scopes << scope
        try {
            body()
        } finally {
            scopes.pop()
        }
    }
}

int parse(List files) {
    int faults = 0
    files.each {
        def unit = new CompilationUnit()
        unit.addSource(new File(it))
        try {
            unit.compile(Phases.CONVERSION)
        } catch (CompilationFailedException fault) {
            println fault.message
            faults = 1
        }
    }
    faults
}

int run(String step, String block) {
    def steps = new Steps()
    def withPermit = new GroovyShell().parse(new File(step))
    withPermit.metaClass.methodMissing = { String name, args -> steps.invokeMethod(name, args) }
    withPermit.metaClass.propertyMissing = { String name -> steps."$name" }
    def pipeline = new GroovyShell().parse(block)
    pipeline.metaClass.methodMissing = { String name, args ->
        name == 'withPermit' ? withPermit.call(*args) : steps.invokeMethod(name, args)
    }
    try {
        pipeline.run()
        return 0
    } catch (Exception fault) {
        println "failed: ${fault.message}"
        return 3
    }
}

List arguments = args.toList()
System.exit(arguments[0] == 'parse' ? parse(arguments.drop(1)) : run(arguments[1], arguments[2]))
